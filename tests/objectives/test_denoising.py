from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from limner.contracts import Condition, Level
from limner.models import PRECONDITIONINGS, Preconditioned
from limner.objectives import AdamWConfig, Batch, Context, Denoising, DenoisingConfig, LogitNormal, LogNormal
from limner.objectives.denoising import WEIGHTINGS, edm_weight


class Half(nn.Module):
    """A raw network whose output is easy to follow by hand, and which keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.labels: list[Tensor] = []

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
        if label is not None:
            self.labels.append(label)
        return self.gain * x


def taught(config: DenoisingConfig) -> Denoising:
    return Denoising(Preconditioned(Half(), PRECONDITIONINGS[config.preconditioning], 0.5), config, AdamWConfig())


def batch(first: int, count: int) -> tuple[Batch, Context]:
    samples = torch.arange(first, first + count)
    images = (samples.reshape(-1, 1, 1, 1) % 7 / 3.5 - 1) * torch.ones(1, 1, 2, 2)
    return Batch(images, Condition(samples % 3), samples), Context(11, samples, "denoise", 0.0)


def test_flow_loss_is_the_mean_squared_error_of_the_velocity() -> None:
    objective = taught(DenoisingConfig(label_dropout=0.0))
    data, context = batch(0, 64)
    t = LogitNormal()(context.spread("level")).sigma.reshape(-1, 1, 1, 1)
    noise = context.noise("noise", (1, 2, 2))
    x = (1 - t) * data.images + t * noise
    velocity = 0.5 * x / torch.sqrt((1 - t) ** 2 * 0.25 + t**2)
    by_hand = ((velocity - (noise - data.images)) ** 2).mean(dim=(1, 2, 3)) * (
        t.flatten() / t.flatten().clamp_min(0.02)
    ) ** 2
    assert objective.loss(data, context)["loss"].item() == pytest.approx(float(by_hand.mean()), rel=1e-4)


def test_edm_loss_is_the_mean_squared_error_of_the_raw_network() -> None:
    """With the paper's weighting the raw network's error counts evenly (Karras et al. 2022, equation 8)."""
    objective = taught(DenoisingConfig(preconditioning="edm", levels=LogNormal(), weighting="edm", label_dropout=0.0))
    data, context = batch(0, 64)
    sigma = LogNormal()(context.spread("level")).sigma.reshape(-1, 1, 1, 1)
    x = data.images + sigma * context.noise("noise", (1, 2, 2))
    skip, into = 0.25 / (sigma**2 + 0.25), 1 / (sigma**2 + 0.25).sqrt()
    target = (data.images - skip * x) / (sigma * 0.5 * into)
    by_hand = ((0.5 * into * x - target) ** 2).mean()
    assert objective.loss(data, context)["loss"].item() == pytest.approx(float(by_hand), rel=1e-3)


def test_edm_weight_by_the_paper() -> None:
    at = LogNormal()(torch.tensor([0.1, 0.5, 0.9]))
    expected = (at.sigma**2 + 0.25) / (at.sigma * 0.5) ** 2
    torch.testing.assert_close(edm_weight(at, 0.5), expected)


def test_draws_do_not_depend_on_how_a_batch_is_cut() -> None:
    data, context = batch(40, 24)
    for name in ("spread", "uniform"):
        whole = getattr(context, name)("level")
        parts = [getattr(Context(11, data.samples[a : a + 6], "denoise", 0.0), name)("level") for a in range(0, 24, 6)]
        assert torch.equal(whole, torch.cat(parts))


def test_labels_are_hidden_as_often_as_asked() -> None:
    objective = taught(DenoisingConfig(label_dropout=0.25))
    objective.loss(*batch(0, 20_000))
    net = objective.denoiser.net
    assert isinstance(net, Half)
    hidden = net.labels[0] == -1
    assert float(hidden.float().mean()) == pytest.approx(0.25, abs=0.015)
    assert torch.equal(net.labels[0][~hidden], (torch.arange(20_000) % 3)[~hidden])


@pytest.mark.parametrize("u", [0.001, 0.2, 0.5, 0.9])
def test_levels_are_the_quantiles_of_their_distribution(u: float) -> None:
    at = LogNormal(mean=-1.2, std=1.2)(torch.tensor([u], dtype=torch.float64))
    assert float(at.sigma) == pytest.approx(math.exp(stats.norm.ppf(u, -1.2, 1.2)))
    assert float(at.alpha) == 1
    at = LogitNormal(mean=0.3, std=0.8)(torch.tensor([u], dtype=torch.float64))
    assert float(at.sigma) == pytest.approx(1 / (1 + math.exp(-stats.norm.ppf(u, 0.3, 0.8))))
    assert float(at.alpha + at.sigma) == pytest.approx(1)


def test_levels_are_spread_more_evenly_than_chance() -> None:
    """The largest gap between sorted draws of a batch, against that of independent ones."""
    for first in (0, 1000, 10**9):
        context = Context(3, torch.arange(first, first + 128), "denoise", 0.0)
        spread, chance = (
            float(getattr(context, name)("level").sort().values.diff().max()) for name in ("spread", "uniform")
        )
        assert spread < 2.7 / 128 < chance


def test_every_seed_spreads_its_own_way() -> None:
    samples = torch.arange(8)
    a, b = (Context(seed, samples, "denoise", 0.0).spread("level") for seed in (1, 2))
    assert not torch.allclose(a, b)
    assert bool(((a > 0) & (a < 1)).all())


@pytest.mark.parametrize("size", [1, 5, 24])
def test_micro_batches_add_up_to_the_batch(size: int) -> None:
    """Noise, levels and hidden labels of a sample stay its own, so loss and gradient are means over the parts."""

    def run(sizes: list[int]) -> tuple[float, float, Tensor]:
        objective = taught(DenoisingConfig(label_dropout=0.4))
        first, total = 40, torch.zeros(())
        for count in sizes:
            total = total + objective.loss(*batch(first, count))["loss"] * count / 24
            first += count
        total.backward()
        net = objective.denoiser.net
        assert isinstance(net, Half)
        assert net.gain.grad is not None
        return total.item(), net.gain.grad.item(), torch.cat(net.labels)

    loss, gradient, labels = run([24])
    part_loss, part_gradient, part_labels = run([size] * (24 // size) + [24 % size] * (24 % size > 0))
    assert part_loss == pytest.approx(loss, rel=1e-4)
    assert part_gradient == pytest.approx(gradient, rel=1e-4)
    assert torch.equal(part_labels, labels)
    assert 0 < int((labels == -1).sum()) < 24


@pytest.mark.parametrize("weighting", ["edm", "velocity"])
def test_the_loss_is_finite_at_the_farthest_levels(weighting: str) -> None:
    """A wide logit-normal meets t = 1 in float32, where alpha is 0 and sigma / alpha infinite."""
    config = DenoisingConfig(preconditioning="edm", levels=LogitNormal(std=6.0), weighting=weighting)  # type: ignore[arg-type]
    assert float(LogitNormal(std=6.0)(torch.tensor([1 - 1e-6])).alpha) == 0
    losses = taught(config).loss(*batch(0, 4096))
    assert math.isfinite(losses["loss"].item())
    assert float(WEIGHTINGS[weighting](Level(torch.zeros(1), torch.ones(1)), 0.5)) == (4.0 if weighting == "edm" else 1)


def test_velocity_weight_stops_growing_below_two_percent_of_noise() -> None:
    t = torch.tensor([1.0, 0.5, 0.02, 0.001])
    torch.testing.assert_close(
        WEIGHTINGS["velocity"](Level(3 * (1 - t), 3 * t), 0.5), torch.tensor([1.0, 4.0, 2500.0, 2500.0])
    )


@pytest.mark.parametrize("levels", [LogNormal(), LogitNormal(mean=-0.4, std=1.3)])
def test_levels_of_a_run_follow_their_distribution(levels: LogNormal | LogitNormal) -> None:
    """ln(sigma / alpha) is normal in both; any stretch of samples is a fair share of it."""
    context = Context(5, torch.arange(70_000, 74_000), "denoise", 0.0)
    at = levels(context.spread("level"))
    found = (at.sigma / at.alpha).log().double().numpy()
    assert stats.kstest(found, "norm", (levels.mean, levels.std)).statistic < 0.002


def test_noise_level_and_hiding_are_drawn_apart() -> None:
    context = Context(5, torch.arange(20_000), "denoise", 0.0)
    drawn = torch.stack([context.noise("noise", ()), context.spread("level"), context.uniform("drop")])
    apart = torch.corrcoef(drawn) - torch.eye(3)
    assert float(apart.abs().max()) < 0.03
