"""Codes whose spread is learned: a map that can be taken back, its determinant, a density that sums to one."""

from __future__ import annotations

import math

import pytest
import torch

from limner.contracts import Condition, ImageSpec
from limner.errors import UserError
from limner.models import VAEConfig
from limner.models.couplings import Couplings
from limner.models.vae import VAE
from limner.objectives import ELBO, AdamWConfig, Batch, Context, ELBOConfig
from limner.sampling.importance import weighted_bound


def couplings(code: int, label: int, depth: int = 4) -> Couplings:
    torch.manual_seed(0)
    made = Couplings(code, label, depth).double()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, 0, 0.3)
    return made


@pytest.mark.parametrize(("code", "label"), [(2, 0), (5, 3), (6, 1)])
def test_there_and_back_and_how_volumes_change(code: int, label: int) -> None:
    made = couplings(code, label)
    z, y = torch.randn(3, code).double(), torch.randn(3, label).double()
    w = made(z, y)
    assert float((w - z).detach().abs().min()) > 0
    back, log_det = made.inverse(w, y)
    torch.testing.assert_close(back, z)
    for i in range(3):
        slopes = torch.autograd.functional.jacobian(lambda w, i=i: made.inverse(w[None], y[i : i + 1])[0][0], w[i])
        torch.testing.assert_close(torch.linalg.slogdet(slopes).logabsdet, log_det[i])


def test_nothing_moves_before_anything_is_learned() -> None:
    z = torch.randn(3, 6)
    made = Couplings(6, 0, 4)
    assert torch.equal(made(z, z[:, :0]), z)
    back, log_det = made.inverse(z, z[:, :0])
    assert torch.equal(back, z)
    assert log_det.tolist() == [0, 0, 0]


def vae(couplings: int, classes: int = 0) -> VAE:
    torch.manual_seed(1)
    return VAEConfig(width=4, code=2, couplings=couplings).generator(ImageSpec(1, (8, 8), "L"), classes).double()


def test_the_prior_of_codes_is_a_density() -> None:
    net = vae(4)
    for weight in net.spread.parameters():  # type: ignore[union-attr]
        torch.nn.init.normal_(weight, 0, 0.3)
    at = torch.linspace(-12, 12, 481).double()
    w = torch.cartesian_prod(at, at)
    z, log_det = net.inverse_latent(w, Condition())
    density = torch.exp(-0.5 * z.square().sum(1) + log_det) / (2 * math.pi)
    assert float(density.sum().detach()) * 0.05**2 == pytest.approx(1, abs=1e-3)


def test_the_objective_is_the_bound_of_one_code() -> None:
    """On average over many codes, where the entropy of the posterior is exact in one and drawn in the other."""
    net = vae(4, classes=3)
    for weight in net.spread.parameters():  # type: ignore[union-attr]
        torch.nn.init.normal_(weight, 0, 0.2)
    x = (torch.randint(0, 256, (1, 1, 8, 8)) / 127.5 - 1).double().expand(4000, 1, 8, 8)
    samples, cond = torch.arange(4000), Condition(torch.ones(4000, dtype=torch.int64))
    objective = ELBO(net, ELBOConfig(), AdamWConfig(), 256)
    told = objective.loss(Batch(x, cond, samples), Context(0, samples, "elbo", 0.0, dtype=torch.float64))
    bound = weighted_bound(net, x, cond, samples, 256, seed=3, codes=1)
    spread = float(bound.std()) / 4000**0.5 / (64 * math.log(2))
    assert float(told["bound"]) == pytest.approx(-float(bound.mean()) / (64 * math.log(2)), abs=6 * spread + 1e-3)


def test_codes_of_pictures_become_likely() -> None:
    """Codes on a circle, which are not normal: the couplings learn to draw them."""
    made = Couplings(2, 0, 6)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(made.parameters(), lr=3e-3)
    nothing = torch.zeros(256, 0)
    for _ in range(400):
        angle = torch.rand(256, generator=generator) * 2 * math.pi
        w = torch.stack([angle.cos(), angle.sin()], 1) * 2 + 0.1 * torch.randn(256, 2, generator=generator)
        z, log_det = made.inverse(w, nothing)
        loss = (0.5 * z.square().sum(1) - log_det).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    radius = made(torch.randn(256, 2, generator=generator), nothing).norm(dim=1)
    assert float(((radius > 1.5) & (radius < 2.5)).float().mean()) > 0.7


def test_mistakes() -> None:
    with pytest.raises(UserError, match="a code of one number takes 0"):
        VAEConfig(code=1, couplings=2)
    with pytest.raises(UserError, match=r"net\.couplings"):
        VAEConfig(couplings=-1)
