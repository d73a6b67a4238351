from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.models.equalized import GAIN, EqualConv, EqualLinear, activated, halved, smoothed, twice

BINOMIAL = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64


def test_filters_are_those_of_the_definition() -> None:
    """Zeros put between pixels, then the filter; and the filter, then every second pixel."""
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    kernel = BINOMIAL.double().expand(3, 1, 4, 4)
    spread = torch.zeros(2, 3, 12, 16, dtype=torch.float64)
    spread[:, :, ::2, ::2] = x
    filtered = F.conv2d(F.pad(spread, (2, 1, 2, 1)), 4 * kernel, groups=3)
    torch.testing.assert_close(twice(x)[:, :, 2:-2, 2:-2], filtered[:, :, 2:-2, 2:-2])
    every = F.conv2d(F.pad(x, (1, 2, 1, 2)), kernel, groups=3)[:, :, ::2, ::2]
    torch.testing.assert_close(halved(x), every)
    assert smoothed(x, 2.0).shape == (2, 3, 5, 7)
    torch.testing.assert_close(
        smoothed(torch.ones_like(x), 2.0)[:, :, 1:-1, 1:-1], torch.full((2, 3, 3, 5), 2.0).double()
    )


@given(into=st.integers(1, 64), rate=st.sampled_from([1.0, 0.01]), gain=st.sampled_from([1.0, GAIN]))
@settings(max_examples=10, deadline=None)
def test_an_equalised_layer_keeps_size(into: int, rate: float, gain: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(2000, into)
    layer = EqualLinear(into, 50, rate=rate, gain=gain)
    near = 0.3 if into < 8 else 0.1
    assert float(layer(x).detach().std()) / gain == pytest.approx(1, abs=near)
    assert float(layer.weight.detach().std()) == pytest.approx(1 / rate, rel=0.5)
    picture = torch.randn(4, into, 9, 9)
    size = EqualConv(into, 50, 3, gain=gain)(picture)[:, :, 1:-1, 1:-1].detach().std()
    assert float(size) / gain == pytest.approx(1, abs=near)
    assert float(activated(GAIN * torch.randn(10_000)).square().mean()) == pytest.approx(1.04, abs=0.06)


def test_the_first_bias_does_not_depend_on_the_rate() -> None:
    for rate in (1.0, 0.01):
        layer = EqualLinear(3, 4, rate=rate, bias=1.0, gain=2.0)
        torch.testing.assert_close(layer(torch.zeros(1, 3)).detach(), torch.full((1, 4), 2.0))
