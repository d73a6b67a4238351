from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.contracts import ImageSpec
from limner.errors import UserError
from limner.models import ResidualGANConfig
from limner.models.folding import folded, folded_spec


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
@settings(deadline=None)
def test_sizes(side: int, height: int, width: int, channels: int) -> None:
    maps = folded(torch.randn(2, channels, height, width), side)
    assert maps.shape[1:] == folded_spec(ImageSpec(channels, (height, width), "L"), side).shape


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_nothing_is_lost(side: int) -> None:
    """What one pixel leads to is at right angles to what others lead to, once each number is brought to one size."""
    pixels = torch.eye(side**2, dtype=torch.float64).reshape(-1, 1, side, side)
    rows = folded(pixels, side).flatten(1).T
    rows = rows / rows.norm(dim=1, keepdim=True)
    torch.testing.assert_close(rows @ rows.T, torch.eye(side**2, dtype=torch.float64))


def test_the_mean_comes_first_then_differences_from_coarse_to_fine() -> None:
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    x[..., :2] = 1.0  # a coarse edge
    mean, across, down, both, *fine = folded(x, 4)[0, :, 0, 0]
    assert mean == 0.5
    assert across > 0
    assert down == both == 0
    assert not any(fine)
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    x[..., ::2] = 1.0  # stripes
    mean, *coarse = folded(x, 4)[0, :4, 0, 0]
    assert mean == 0.5
    assert not any(coarse)
    fine = folded(x, 4)[0, 4:, 0, 0].reshape(4, 3).tolist()
    assert all(along == across and down == both == 0 for along, down, both in fine)


def test_small_folds_are_plain_pixels() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(folded(x, 1), x)
    assert folded(x, 2)[0, :, 0, 0].tolist() == [0, 1, 4, 5]


def test_colours_are_kept_apart() -> None:
    x = torch.randn(2, 3, 8, 8)
    every = folded(x, 4)
    for colour in range(3):
        torch.testing.assert_close(every[:, 16 * colour : 16 * (colour + 1)], folded(x[:, colour : colour + 1], 4))


@pytest.mark.parametrize("wrong", [3, 6, 128, -1])
def test_mistakes(wrong: int) -> None:
    with pytest.raises(UserError, match=r"net\.unshuffle"):
        ResidualGANConfig(unshuffle=wrong)
