"""Preconditionings as laws of the denoiser that they make, whatever network is inside."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.contracts import Condition, ImageSpec, Level, Prediction
from limner.models import PRECONDITIONINGS, Preconditioned, UNet, UNetConfig

DATA = 0.5


class Wavy(nn.Module):
    """A network that depends on all it is given, nonlinearly."""

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
        return torch.sin(3 * x + noise.reshape(-1, 1, 1, 1))


def denoised(name: str, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return Preconditioned(Wavy(), PRECONDITIONINGS[name], DATA)(x, Level(alpha, sigma), Condition()).x0


PIXELS = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 3, 3)
WEIGHT = st.floats(0.01, 10).map(lambda value: torch.tensor([value], dtype=torch.float64))


@pytest.mark.parametrize("name", PRECONDITIONINGS)
@settings(deadline=None)
@given(alpha=WEIGHT, sigma=WEIGHT, by=WEIGHT)
def test_scaling_a_picture_and_its_level_changes_nothing(name: str, alpha: Tensor, sigma: Tensor, by: Tensor) -> None:
    """To the precision of float64, in which nothing on the way is narrowed."""
    plain = denoised(name, PIXELS, alpha, sigma)
    assert plain.dtype == torch.float64
    torch.testing.assert_close(denoised(name, by * PIXELS, by * alpha, by * sigma), plain, rtol=1e-10, atol=1e-10)


@settings(deadline=None)
@given(sigma=WEIGHT)
def test_edm_by_the_paper(sigma: Tensor) -> None:
    """Karras et al. 2022, equation 7 with table 1, as the whole denoiser, in float64."""
    total = (sigma**2 + DATA**2).sqrt()
    inside = torch.sin(3 * PIXELS / total + sigma.log() / 4)
    expected = DATA**2 / total**2 * PIXELS + sigma * DATA / total * inside
    found = denoised("edm", PIXELS, torch.ones_like(sigma), sigma)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["edm", "flow", "vp", "v"])
def test_without_noise_the_picture_is_what_is_seen(name: str) -> None:
    """At sigma = 0 there is nothing to guess: x / alpha, whatever the network says."""
    alpha, sigma = torch.tensor([0.8], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    torch.testing.assert_close(denoised(name, PIXELS, alpha, sigma), PIXELS / 0.8)


@pytest.mark.parametrize("name", sorted(set(PRECONDITIONINGS) - {"vp"}))
def test_pure_noise_tells_nothing_but_through_the_network(name: str) -> None:
    """At alpha = 0 no row but the flow's hands x on, and all are finite. (The noise says nothing there.)"""
    alpha, sigma = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    out = denoised(name, PIXELS, alpha, sigma)
    c = PRECONDITIONINGS[name].coefficients(Level(alpha, sigma), DATA)
    assert bool(out.isfinite().all())
    assert float(c.skip) == (1.0 if name == "flow" else 0.0)


@pytest.mark.parametrize("name", ["edm", "flow"])
def test_targets_of_the_network_are_of_even_size(name: str) -> None:
    """What F must answer, on data of this spread: variance 1 at every level (EDM), 1 + sigma_data² (the velocity)."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(50_000, generator=generator, dtype=torch.float64) for _ in range(2))
    for t in (0.02, 0.3, 0.7, 0.98):
        alpha, sigma = torch.tensor([1 - t], dtype=torch.float64), torch.tensor([t], dtype=torch.float64)
        c = PRECONDITIONINGS[name].coefficients(Level(alpha, sigma), DATA)
        x = alpha * DATA * x0 + sigma * noise
        target = (DATA * x0 - c.skip * x) / c.out
        assert float(target.var()) == pytest.approx(1.0 if name == "edm" else 1 + DATA**2, rel=0.03)
        assert float((c.into * x).var()) == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("name", PRECONDITIONINGS)
def test_half_precision_inside_keeps_single_outside(name: str) -> None:
    raw = UNet(UNetConfig(width=16), ImageSpec(1, (8, 8), "L"), 0)
    nn.init.normal_(raw.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    net = Preconditioned(raw, PRECONDITIONINGS[name], DATA).requires_grad_(False)
    x = torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)
    at = Level(torch.tensor([0.9, 0.2]), torch.tensor([0.1, 0.8]))
    single = net(x, at, Condition()).x0
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x, at, Condition()).x0
    assert half.dtype == torch.float32
    assert not torch.equal(half, single)
    torch.testing.assert_close(half, single, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", [name for name, row in PRECONDITIONINGS.items() if row.whitened])
def test_data_around_a_mean_is_as_data_around_nought(name: str) -> None:
    """Pictures moved by their mean, and the network none the wiser; each channel has its own."""
    x = torch.linspace(-2, 2, 24, dtype=torch.float64).reshape(2, 3, 2, 2)
    alpha, sigma = torch.tensor([0.7, 0.0], dtype=torch.float64), torch.tensor([0.3, 1.0], dtype=torch.float64)
    mean = torch.tensor([0.5, -0.25, 0.0], dtype=torch.float64).reshape(3, 1, 1)
    plain = Preconditioned(Wavy(), PRECONDITIONINGS[name], DATA)
    around = Preconditioned(Wavy(), PRECONDITIONINGS[name], DATA, (0.5, -0.25, 0.0))
    moved = x + alpha.reshape(-1, 1, 1, 1) * mean
    found = around(moved, Level(alpha, sigma), Condition()).x0
    torch.testing.assert_close(found, plain(x, Level(alpha, sigma), Condition()).x0 + mean)


def level(alpha: float, sigma: float, n: int = 1) -> Level:
    return Level(torch.full((n,), alpha, dtype=torch.float64), torch.full((n,), sigma, dtype=torch.float64))


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_edm_row_by_the_paper(sigma: float) -> None:
    """Karras et al. 2022, table 1, column "Ours"."""
    data, c = 0.5, PRECONDITIONINGS["edm"].coefficients(level(1.0, sigma), 0.5)
    assert float(c.skip) == pytest.approx(data**2 / (sigma**2 + data**2))
    assert float(c.out) == pytest.approx(sigma * data / (sigma**2 + data**2) ** 0.5)
    assert float(c.into) == pytest.approx(1 / (sigma**2 + data**2) ** 0.5)
    assert float(c.noise) == pytest.approx(torch.tensor(sigma).log().item() / 4, rel=1e-5)


def test_flow_row_is_the_velocity() -> None:
    t = 0.3
    c = PRECONDITIONINGS["flow"].coefficients(level(1 - t, t), 0.5)
    x0, noise = torch.tensor(0.4), torch.tensor(-1.1)
    x = (1 - t) * x0 + t * noise
    assert float(c.skip * x + c.out * (noise - x0)) == pytest.approx(float(x0))


@pytest.mark.parametrize("name", PRECONDITIONINGS)
@pytest.mark.parametrize(("alpha", "sigma"), [(0.0, 1.0), (1.0, 0.0), (1.0, 1e-8), (1e-8, 1.0)])
def test_finite_at_both_ends(name: str, alpha: float, sigma: float) -> None:
    c = PRECONDITIONINGS[name].coefficients(level(alpha, sigma), 0.5)
    assert all(bool(value.isfinite().all()) for value in (c.skip, c.out, c.into, c.noise))


@pytest.mark.parametrize("name", PRECONDITIONINGS)
@pytest.mark.parametrize("ratio", [0.01, 1.0, 50.0])
def test_the_network_sees_unit_variance(name: str, ratio: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(20_000, generator=generator, dtype=torch.float64) for _ in range(2))
    c = PRECONDITIONINGS[name].coefficients(level(1.0, ratio), 0.5)
    assert float((c.into * (0.5 * x0 + ratio * noise)).std()) == pytest.approx(1, abs=0.02)
    if name == "edm":
        target = (0.5 * x0 - c.skip * (0.5 * x0 + ratio * noise)) / c.out
        assert float(target.std()) == pytest.approx(1, abs=0.02)


@settings(deadline=None)
@given(alpha=WEIGHT, sigma=WEIGHT)
def test_networks_of_the_noise_and_of_v_say_what_the_conversions_say(alpha: Tensor, sigma: Tensor) -> None:
    """As published neither knows the data's mean and spread."""
    at = Level(alpha, sigma)
    total = (alpha**2 + sigma**2).sqrt()
    told = torch.sin(3 * PIXELS / total + (sigma / alpha).log() / 4)
    for name, of in (("vp", Prediction.of_noise), ("v", Prediction.of_v)):
        net = Preconditioned(Wavy(), PRECONDITIONINGS[name], DATA, (0.3,))
        torch.testing.assert_close(net(PIXELS, at, Condition()).x0, of(PIXELS, at, told).x0, rtol=1e-9, atol=1e-9)


def test_a_network_of_twice_the_channels_learns_the_variance() -> None:
    """Its second half, -1 to 1, places the variance between its bounds, 0 to 1."""

    class Twice(nn.Module):
        def forward(self, x: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
            return torch.cat([torch.sin(3 * x), torch.full_like(x, 0.5)], dim=1)

    net = Preconditioned(Twice(), PRECONDITIONINGS["vp"], 1.0)
    said = net(PIXELS, level(0.6, 0.8), Condition())
    assert said.variance is not None
    assert said.x0.shape == said.variance.shape == PIXELS.shape
    assert said.variance.unique().tolist() == [0.75]
    assert Preconditioned(Wavy(), PRECONDITIONINGS["vp"], 1.0)(PIXELS, level(0.6, 0.8), Condition()).variance is None
