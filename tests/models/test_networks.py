from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.contracts import Condition, ImageSpec, Level
from limner.models import PRECONDITIONINGS, Preconditioned, UNet, UNetConfig


def built(config: UNetConfig, channels: int = 1, size: tuple[int, int] = (8, 8), classes: int = 3) -> UNet:
    """With random weights everywhere, also where training begins at zero."""
    net = UNet(config, ImageSpec(channels, size, "L"), classes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
    return net.eval()


SMALL = UNetConfig(width=8, multipliers=(1, 2), blocks=1, attention=(1,), unshuffle=2)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 33),
    st.integers(1, 33),
    st.sampled_from([1, 3, 4]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([(1,), (1, 2), (1, 1, 2)]),
)
def test_any_size_and_depth(
    height: int, width: int, channels: int, unshuffle: int, multipliers: tuple[int, ...]
) -> None:
    config = UNetConfig(width=8, multipliers=multipliers, unshuffle=unshuffle, blocks=1, attention=(0,))
    net = built(config, channels, (height, width))
    x = torch.ones(2, channels, height, width)
    out = net(x, torch.zeros(2), torch.tensor([0, 2]))
    assert out.shape == x.shape
    assert bool(out.isfinite().all())


def test_training_begins_at_zero_and_reaches_every_parameter() -> None:
    net = UNet(SMALL, ImageSpec(3, (8, 8), "RGB"), 3)
    x, noise, label = torch.randn(4, 3, 8, 8), torch.rand(4), torch.tensor([-1, 0, 1, 2])
    assert not bool(net(x, noise, label).any())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):  # what lies behind a zero layer moves once that layer has
        optimizer.zero_grad()
        (net(x, noise, label) - x).square().mean().backward()
        optimizer.step()
    still = [name for name, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert not still


def test_the_null_label_is_no_label() -> None:
    net, x, noise = built(SMALL), torch.randn(2, 1, 8, 8), torch.rand(2)
    assert torch.equal(net(x, noise, None), net(x, noise, torch.tensor([-1, -1])))
    assert not torch.equal(net(x, noise, None), net(x, noise, torch.tensor([0, 0])))


def test_label_level_and_picture_all_matter_and_samples_do_not_meet() -> None:
    net = built(SMALL)
    x, noise, label = torch.randn(5, 1, 8, 8), torch.rand(5), torch.tensor([0, 1, 2, -1, 0])
    out = net(x, noise, label)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(net(x[order], noise[order], label[order]), out[order])
    changed = x.clone()
    changed[0] += 1
    moved = (net(changed, noise, label) - out).detach().abs().amax(dim=(1, 2, 3))
    assert float(moved[0]) > 1e-3
    assert float(moved[1:].max()) < 1e-5
    assert not torch.allclose(net(x, noise + 0.3, label), out)


def test_double_precision() -> None:
    net, x = built(SMALL), torch.randn(2, 1, 8, 8)
    single = net(x, torch.tensor([0.1, 0.7]), None)
    torch.testing.assert_close(net.double()(x.double(), torch.tensor([0.1, 0.7]).double(), None).float(), single)


def level(alpha: float, sigma: float, n: int = 1) -> Level:
    return Level(torch.full((n,), alpha, dtype=torch.float64), torch.full((n,), sigma, dtype=torch.float64))


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_edm_row_by_the_paper(sigma: float) -> None:
    """Karras et al. 2022, table 1, column "Ours"."""
    data, c = 0.5, PRECONDITIONINGS["edm"](level(1.0, sigma), 0.5)
    assert float(c.skip) == pytest.approx(data**2 / (sigma**2 + data**2))
    assert float(c.out) == pytest.approx(sigma * data / (sigma**2 + data**2) ** 0.5)
    assert float(c.into) == pytest.approx(1 / (sigma**2 + data**2) ** 0.5)
    assert float(c.noise) == pytest.approx(torch.tensor(sigma).log().item() / 4, rel=1e-5)


def test_flow_row_is_the_velocity() -> None:
    t = 0.3
    c = PRECONDITIONINGS["flow"](level(1 - t, t), 0.5)
    x0, noise = torch.tensor(0.4), torch.tensor(-1.1)
    x = (1 - t) * x0 + t * noise
    assert float(c.skip * x + c.out * (noise - x0)) == pytest.approx(float(x0))


@pytest.mark.parametrize("name", PRECONDITIONINGS)
@given(st.floats(0.01, 5), st.floats(0.01, 5), st.floats(0.1, 10))
def test_only_the_ratio_of_a_level_counts(name: str, alpha: float, sigma: float, by: float) -> None:
    net = Preconditioned(torch.nn.Module(), PRECONDITIONINGS[name], 0.5)
    net.net.forward = lambda x, noise, label: x * 0.7 + noise.reshape(-1, 1, 1, 1)  # type: ignore[method-assign]
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 3, 3)
    plain = net(x, level(alpha, sigma), Condition()).x0
    scaled = net(by * x, level(by * alpha, by * sigma), Condition()).x0
    torch.testing.assert_close(scaled, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PRECONDITIONINGS)
@pytest.mark.parametrize(("alpha", "sigma"), [(0.0, 1.0), (1.0, 0.0), (1.0, 1e-8), (1e-8, 1.0)])
def test_finite_at_both_ends(name: str, alpha: float, sigma: float) -> None:
    c = PRECONDITIONINGS[name](level(alpha, sigma), 0.5)
    assert all(bool(value.isfinite().all()) for value in (c.skip, c.out, c.into, c.noise))


@pytest.mark.parametrize("name", PRECONDITIONINGS)
@pytest.mark.parametrize("ratio", [0.01, 1.0, 50.0])
def test_the_network_sees_unit_variance(name: str, ratio: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(20_000, generator=generator, dtype=torch.float64) for _ in range(2))
    c = PRECONDITIONINGS[name](level(1.0, ratio), 0.5)
    assert float((c.into * (0.5 * x0 + ratio * noise)).std()) == pytest.approx(1, abs=0.02)
    if name == "edm":
        target = (0.5 * x0 - c.skip * (0.5 * x0 + ratio * noise)) / c.out
        assert float(target.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("size", "fold"), [((28, 28), 2), ((32, 32), 2), ((64, 48), 4), ((96, 96), 8), ((11, 7), 1)])
def test_the_stem_fits_itself_to_the_pictures(size: tuple[int, int], fold: int) -> None:
    config = UNetConfig(width=8).fitted(size)
    assert config.unshuffle == fold
    assert max(size) / fold < 24
    assert UNetConfig(width=8, unshuffle=1).fitted(size).unshuffle == 1
    net = UNet(UNetConfig(width=8), ImageSpec(1, size, "L"), 0)
    assert net.unshuffle == fold
