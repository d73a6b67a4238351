"""Likelihood against Gaussians, whose density and best denoiser are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limner import random
from limner.codecs import Identity
from limner.contracts import Condition, Denoiser, ImageSpec, Level, Model, Prediction, RefineConfig
from limner.errors import UserError
from limner.sampling import log_likelihood
from limner.sampling.likelihood import _guarded
from limner.sampling.probability_flow import Path, density, exact_divergence, hutchinson

SHAPE = (1, 2, 3)
SIZE = math.prod(SHAPE)
MEAN = torch.linspace(-0.4, 0.5, SIZE, dtype=torch.float64)


def covariance() -> Tensor:
    """Of neighbours that are alike, and of very different spreads."""
    at = torch.arange(SIZE, dtype=torch.float64)
    spread = torch.logspace(-1.2, 0.2, SIZE, dtype=torch.float64)
    return spread[:, None] * torch.exp(-(at[:, None] - at).abs() / 2) * spread


def denoise(x: Tensor, at: Level, cond: Condition) -> Prediction:
    """E[x0 | x] for x0 ~ N(MEAN, covariance)."""
    out = []
    for row, alpha, sigma in zip(x.flatten(1), at.alpha, at.sigma, strict=True):
        blurred = alpha**2 * covariance() + sigma**2 * torch.eye(SIZE, dtype=torch.float64)
        out.append(MEAN + alpha * covariance() @ torch.linalg.solve(blurred, row - alpha * MEAN))
    return Prediction(torch.stack(out).reshape(x.shape))


def exactly(x: Tensor, sigma_min: float) -> Tensor:
    """ln density of pictures with noise of sigma_min."""
    blurred = covariance() + sigma_min**2 * torch.eye(SIZE, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(MEAN, blurred).log_prob(x.flatten(1))


def pictures(n: int) -> Tensor:
    drawn = random.normal(0, torch.arange(n), "x", shape=(SIZE,)).double()
    return (MEAN + drawn @ torch.linalg.cholesky(covariance()).T).reshape(n, *SHAPE)


def test_a_gaussian_exactly() -> None:
    """To a thousandth of a nat a dimension, of each picture; sigma_max is far above the mean, which the prior lacks."""
    path = Path(steps=64, sigma_max=1000.0)
    x = pictures(6)
    found = density(denoise, x, Condition(), exact_divergence, path)
    assert float((found - exactly(x, path.sigma_min)).abs().max()) / SIZE < 1e-3


def test_steps_bring_the_fourth_order() -> None:
    x, fine = pictures(2), density(denoise, pictures(2), Condition(), exact_divergence, Path(steps=256))
    errors = [
        float((density(denoise, x, Condition(), exact_divergence, Path(steps=n)) - fine).abs().max()) for n in (16, 32)
    ]
    assert math.log2(errors[0] / errors[1]) > 3


def test_the_estimators_mean_is_the_divergence() -> None:
    x = pictures(1).expand(400, *SHAPE)
    signs = torch.where(random.uniform(1, torch.arange(400), "signs", shape=SHAPE) < 0.5, -1.0, 1.0).double()
    path = Path(steps=8, sigma_max=10.0)
    exact = density(denoise, x[:1], Condition(), exact_divergence, path)
    found = density(denoise, x, Condition(), hutchinson(signs), path)
    error = float(found.std() / 20)
    assert error > 0
    assert abs(float(found.mean() - exact)) < 3 * error


class Independent(Denoiser):
    """The best denoiser of pixels that are each N(0, spread²)."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = nn.Parameter(torch.tensor(spread))

    def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
        alpha, sigma = at.like(x)
        return Prediction(alpha * self.spread**2 / (alpha**2 * self.spread**2 + sigma**2) * x)


def model(net: Denoiser, labels: tuple[str, ...] = ()) -> Model:
    return Model(net, Identity(), ImageSpec(1, (4, 4), "L"), labels, RefineConfig())


def test_bits_of_eight_bit_pictures() -> None:
    """Of rounded Gaussian pixels: the entropy of the Gaussian less the logarithm of the bin, 1 / 127.5."""
    spread = 0.2
    drawn = random.normal(5, torch.arange(500), "x", shape=(4, 4, 1)) * spread
    images = ((drawn + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    bound = log_likelihood(model(Independent(spread)), images)
    bits = bound.bits_per_dimension(16)
    expected = 0.5 * math.log2(2 * math.pi * math.e * spread**2) + math.log2(127.5)
    assert bound.kind == "lower"
    assert float(bits.mean()) == pytest.approx(expected, abs=3 * float(bits.std()) / 500**0.5 + 2e-3)
    again = log_likelihood(model(Independent(spread)), images[:3], batch=2)
    torch.testing.assert_close(again.nats, bound.nats[:3], rtol=1e-4, atol=1e-3)


def test_within_a_bin_the_density_varies_and_the_bound_lies_below() -> None:
    """By as much as the mean logarithm of a steep density lies below the logarithm of its mean."""
    spread, images = 0.01, np.full((200, 4, 4, 1), 130, np.uint8)
    inside = torch.linspace(-0.5, 0.5, 4001, dtype=torch.float64)
    blurred = math.hypot(spread, Path().sigma_min)
    ln_p = torch.distributions.Normal(0.0, blurred).log_prob((130 + inside) / 127.5 - 1) - math.log(127.5)
    exact, mean = 16 * float(ln_p.exp().mean().log()), 16 * float(ln_p.mean())
    bound = log_likelihood(model(Independent(spread)), images, steps=64)
    error = 2 * float(bound.nats.std()) / 200**0.5
    assert mean < exact - 4 * error
    assert float(bound.nats.mean()) == pytest.approx(mean, abs=1.5 * error + 0.02)


def test_what_no_code_can_reach_is_refused() -> None:
    """As few-step estimates of undertrained networks are wont to be."""
    with pytest.raises(UserError, match="no model of pictures can reach"):
        _guarded(torch.tensor([-97.0, -96.9]), torch.tensor([-97.0, -96.9]), 32)
    with pytest.raises(UserError, match="too few"):
        _guarded(torch.tensor([torch.nan]), torch.tensor([1.0]), 32)


def test_few_steps_are_refused() -> None:
    images = np.full((2, 4, 4, 1), 100, np.uint8)
    with pytest.raises(UserError, match="give --steps 8"):
        log_likelihood(model(Independent(0.02)), images, steps=4)


@pytest.mark.parametrize(
    ("images", "label", "says"),
    [
        (np.zeros((2, 4, 5, 1), np.uint8), None, "this model knows"),
        (np.zeros((0, 4, 4, 1), np.uint8), None, "this model knows"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int64), "without labels"),
    ],
)
def test_pictures_of_another_kind(images: np.ndarray, label: np.ndarray | None, says: str) -> None:
    with pytest.raises(UserError, match=says):
        log_likelihood(model(Independent(0.5)), images, label=label)


def test_a_model_that_was_always_told_the_class_must_be_told() -> None:
    images = np.full((2, 4, 4, 1), 100, np.uint8)
    told = replace(model(Independent(0.5), ("a", "b")), unconditional=False)
    with pytest.raises(UserError, match="give pictures with labels"):
        log_likelihood(told, images)
    assert len(log_likelihood(told, images, label=np.array([0, 1])).nats) == 2


def test_dropout_is_off() -> None:
    class Dropping(Independent):
        def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
            assert not self.training
            return super().forward(x, at, cond)

    net = Dropping(0.5).train()
    log_likelihood(model(net), np.full((2, 4, 4, 1), 100, np.uint8))
    assert net.training
