"""Bounds of an autoencoder whose likelihood is known: x = A z + noise, all normal."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limner.codecs import Identity
from limner.contracts import Autoencoding, Condition, DecodeConfig, ImageSpec, Model, Noise
from limner.errors import UserError
from limner.objectives import ELBO, AdamWConfig, Batch, Context, ELBOConfig
from limner.objectives.elbo import divergence
from limner.sampling import log_likelihood
from limner.sampling.importance import weighted_bound

WIDTH, LEVELS = 0.3, 2


class Linear(Autoencoding):
    """Four values from two numbers, in float64; its posterior is off by ``off``."""

    code = 2

    def __init__(self, off: float = 0.0) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[1.0, 0.2], [0.0, -0.7], [0.4, 0.4], [-0.3, 0.9]]).double())
        self.off = off

    def posterior(self, x: Tensor, cond: Condition) -> tuple[Tensor, Tensor]:
        """Its covariance is not diagonal, so that a diagonal one cannot be exact: that of a rotated code is."""
        values, rotation = torch.linalg.eigh(self.matrix.T @ self.matrix)
        variance = 1 / (1 + values / WIDTH**2)
        mean = (x.flatten(1) @ self.matrix @ rotation) / WIDTH**2 * variance
        return mean + self.off, variance.log().expand_as(mean)

    def log_prob(self, x: Tensor, z: Tensor, cond: Condition) -> Tensor:
        _, rotation = torch.linalg.eigh(self.matrix.T @ self.matrix)
        apart = (x.flatten(1) - z @ rotation.T @ self.matrix.T) / WIDTH
        return (-0.5 * apart.square() - math.log(WIDTH * math.sqrt(2 * math.pi))).sum(1)

    def synthesize(self, w: Tensor, cond: Condition, noise: Noise) -> Tensor:
        return (w @ self.matrix.T).reshape(-1, 1, 2, 2)


def exact(net: Linear, x: Tensor) -> Tensor:
    covariance = net.matrix @ net.matrix.T + WIDTH**2 * torch.eye(4).double()
    return torch.distributions.MultivariateNormal(torch.zeros(4).double(), covariance).log_prob(x.flatten(1))


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(400, 1, 2, 2, generator=torch.Generator().manual_seed(1)).double()


def bound(net: Linear, x: Tensor, codes: int) -> Tensor:
    return weighted_bound(net, x, Condition(), torch.arange(len(x)), LEVELS, seed=3, codes=codes)


def test_a_right_posterior_makes_the_bound_exact(pictures: Tensor) -> None:
    net = Linear()
    for codes in (1, 5):
        torch.testing.assert_close(bound(net, pictures, codes), exact(net, pictures), rtol=0, atol=1e-9)


def test_more_codes_come_nearer_from_below(pictures: Tensor) -> None:
    net = Linear(off=0.2)
    truth = float(exact(net, pictures).mean().detach())
    means = [float(bound(net, pictures, codes).mean()) for codes in (1, 8, 200)]
    assert means[0] < means[1] < means[2]
    assert means[1] < truth
    assert means[2] == pytest.approx(truth, abs=0.03)


def test_the_objective_is_the_bound_of_one_code(pictures: Tensor) -> None:
    """Its mean over noise, in bits a dimension; the codes' part is exact there, and drawn here."""
    net = Linear(off=0.2)
    objective = ELBO(net, ELBOConfig(), AdamWConfig(), LEVELS)
    told = objective.loss(
        Batch(pictures, Condition(), torch.arange(400)),
        Context(0, torch.arange(400), "elbo", 0.0, dtype=torch.float64),
    )
    expected = -float(bound(net, pictures, 1).mean()) / (4 * math.log(2))
    assert float(told["bound"]) == pytest.approx(expected, abs=0.05)
    assert float(told["loss"].detach()) == float(told["bound"])
    assert float(told["pictures"] + told["codes"]) == pytest.approx(float(told["bound"]))


def test_beta_and_free_bits() -> None:
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert divergence(mean, log_variance).tolist() == [[0.5, 0.0]]
    net, x = Linear(), torch.zeros(6, 1, 2, 2).double()

    def loss(**settings: float) -> dict[str, Tensor]:
        objective = ELBO(net, ELBOConfig(**settings), AdamWConfig(), LEVELS)
        return objective.loss(
            Batch(x, Condition(), torch.arange(6)), Context(0, torch.arange(6), "elbo", 0.0, dtype=torch.float64)
        )

    plain = loss()
    assert float(loss(beta=3.0)["loss"].detach()) == pytest.approx(float(plain["bound"] + 2 * plain["codes"]))
    # Every number of a code tells less than ten bits, so that all are charged as ten.
    assert float(loss(free_bits=10.0)["loss"].detach()) == pytest.approx(float(plain["pictures"]) + 2 * 10 / 4)


def test_of_a_model() -> None:
    net = Linear().float().eval()
    model = Model(net, Identity(), ImageSpec(1, (2, 2), "L"), (), DecodeConfig())
    images = np.random.default_rng(0).integers(0, 256, (50, 2, 2, 1), dtype=np.uint8)
    told = log_likelihood(model, images, codes=3, batch=7)
    x = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
    whole = weighted_bound(net, x, Condition(), torch.arange(50), 256, seed=0, codes=3)
    torch.testing.assert_close(told.nats, whole, rtol=0, atol=1e-4)
    assert (told.kind, told.how) == ("lower", "importance-weighted, 3 codes a picture, discrete values")
    with pytest.raises(UserError, match="codes is 0"):
        log_likelihood(model, images, codes=0)
