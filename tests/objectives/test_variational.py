"""The learned variance: its bound against torch's divergences and densities."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from limner.contracts import Condition, Prediction
from limner.errors import UserError
from limner.models import PRECONDITIONINGS, Preconditioned
from limner.noise_schedules import NoiseSchedule
from limner.objectives import AdamWConfig, Batch, Context, DenoisingConfig, Discrete, HybridDenoising
from limner.objectives.denoising import Noised
from limner.objectives.variational import bound_terms, log_share

CONFIG = DenoisingConfig(preconditioning="vp", levels=Discrete(), weighting="simple", variance="learned")
FLOOR = torch.tensor(1e-5, dtype=torch.float64)


def noised(u: Tensor, images: Tensor) -> Noised:
    at = Discrete()(u)
    alpha, sigma = at.like(images)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return Noised(at, alpha * images + sigma * noise, Condition())


def test_a_step_costs_the_divergence_from_its_posterior() -> None:
    """By torch.distributions, from the betas of Ho et al. 2020, equations 6 and 7."""
    u = torch.tensor([0.0205, 0.3005, 0.9995], dtype=torch.float64)
    images = torch.linspace(-0.9, 0.9, 12, dtype=torch.float64).reshape(3, 1, 2, 2)
    batch, guess, place = noised(u, images), images * 0.7, torch.full((3, 1, 2, 2), 0.3, dtype=torch.float64)
    found = bound_terms(Prediction(guess, place), batch, Discrete().before(u), images, FLOOR)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    kept = (1 - betas).cumprod(0)
    for i, t in enumerate((u * 1000).long().tolist()):
        beta, now, before = betas[t], kept[t], kept[t - 1]
        tilde = (1 - before) / (1 - now) * beta
        mean, model_mean = (
            before.sqrt() * beta / (1 - now) * x0 + (1 - beta).sqrt() * (1 - before) / (1 - now) * batch.x[i]
            for x0 in (images[i], guess[i])
        )
        spread = torch.exp(0.3 * beta.log() + 0.7 * tilde.log()).sqrt()
        divergence = torch.distributions.kl_divergence(
            torch.distributions.Normal(mean, tilde.sqrt()), torch.distributions.Normal(model_mean, spread)
        )
        assert float(found[i]) == pytest.approx(float(divergence.mean()) / math.log(2), rel=1e-6)


def test_the_last_step_costs_the_pixels() -> None:
    u = torch.tensor([0.0001], dtype=torch.float64)
    images = (torch.tensor([0.0, 77, 128, 255], dtype=torch.float64) / 127.5 - 1).reshape(1, 1, 2, 2)
    place = torch.full_like(images, 1.0)
    guess = images + torch.tensor([0.01, -0.004, 0.0, 0.02], dtype=torch.float64).reshape(1, 1, 2, 2)
    found = bound_terms(Prediction(guess, place), noised(u, images), Discrete().before(u), images, FLOOR)
    normal = torch.distributions.Normal(guess, 1e-4**0.5)
    upper = torch.where(images == 1, 1.0, normal.cdf(images + 1 / 255))
    lower = torch.where(images == -1, 0.0, normal.cdf(images - 1 / 255))
    assert float(found) == pytest.approx(-float((upper - lower).log2().mean()), rel=1e-6)


def test_the_shares_of_all_values_add_up_to_one() -> None:
    values = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).reshape(256, 1)
    for mean, spread in ((0.0, 0.1), (-0.99, 0.05), (0.3, 0.004)):
        shares = log_share(values, mean - values, torch.full_like(values, math.log(spread**2))).exp()
        assert float(shares.sum()) == pytest.approx(1, abs=1e-9)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain, self.place = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.2))

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
        return torch.cat([self.gain * x, self.place.expand(x.shape)], dim=1)


def test_the_bound_teaches_the_variance_alone() -> None:
    """The gradient of the mean is that of the plain error."""
    samples = torch.arange(64)
    images = (samples.reshape(-1, 1, 1, 1) % 7 / 3.5 - 1) * torch.ones(1, 1, 2, 2)
    batch, context = Batch(images, Condition(), samples), Context(11, samples, "denoise", 0.0)
    gradients = []
    for kind in ("learned", "fixed"):
        net = Twice()
        config = DenoisingConfig(preconditioning="vp", levels=Discrete(), weighting="simple")
        objective = HybridDenoising(Preconditioned(net, PRECONDITIONINGS["vp"], 1.0), CONFIG, Discrete(), AdamWConfig())
        assert config.variance == "fixed"
        if kind == "learned":
            losses = objective.loss(batch, context)
            assert 0 < float(losses["bound"]) < 1000
        else:
            told = objective.noised(batch, context)
            losses = objective.weighted(objective.denoiser(told.x, told.at, told.cond), told, batch)
        losses["loss"].backward()
        gradients.append((net.gain.grad, net.place.grad))
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    assert gradients[0][1] is not None
    assert float(gradients[0][1].abs()) > 0


def test_settings_that_exclude_each_other() -> None:
    with pytest.raises(UserError, match=r"--objective\.levels\.kind discrete"):
        DenoisingConfig(variance="learned")
    zero = Discrete(schedule=NoiseSchedule(zero_terminal_snr=True))
    with pytest.raises(UserError, match=r"--objective\.preconditioning v"):
        DenoisingConfig(preconditioning="vp", levels=zero)
    for weighting in ("simple", "min-snr"):
        with pytest.raises(UserError, match=r"--objective\.weighting v"):
            DenoisingConfig(preconditioning="v", levels=zero, weighting=weighting)
    DenoisingConfig(preconditioning="v", levels=zero, weighting="v")
