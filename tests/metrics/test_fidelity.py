from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limner.metrics.fidelity import psnr, ssim


def pictures(n: int = 2, side: int = 24) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


@given(st.floats(1e-4, 0.5))
def test_psnr_of_a_known_error(error: float) -> None:
    truth = torch.full((1, 1, 8, 8), 0.4)
    assert float(psnr(truth + error, truth)) == pytest.approx(-20 * math.log10(error), abs=1e-2)


def test_what_equals_is_perfect() -> None:
    x = pictures()
    torch.testing.assert_close(ssim(x, x), torch.ones(2).double())
    assert psnr(x, x).tolist() == [100.0, 100.0]


def test_ssim_of_even_pictures_is_that_of_their_light() -> None:
    """Where nothing varies, only the means count: (2 a b + c) / (a² + b² + c)."""
    a, b, c = 0.2, 0.6, 0.01**2
    found = ssim(torch.full((1, 1, 16, 16), a), torch.full((1, 1, 16, 16), b))
    assert float(found) == pytest.approx((2 * a * b + c) / (a * a + b * b + c), rel=1e-5)


def test_ssim_by_hand_in_one_window() -> None:
    """Pictures of 11x11 have one window: weighted means, variances and covariance."""
    x, y = pictures(2, 11)[:, :1].double()
    place = torch.arange(11).double() - 5.0
    one = torch.exp(-place.square() / (2 * 1.5**2))
    weights = torch.outer(one / one.sum(), one / one.sum())
    mx, my = (weights * x[0]).sum(), (weights * y[0]).sum()
    vx, vy = (weights * (x[0] - mx) ** 2).sum(), (weights * (y[0] - my) ** 2).sum()
    cov = (weights * (x[0] - mx) * (y[0] - my)).sum()
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert float(ssim(x[None], y[None])) == pytest.approx(float(expected), rel=1e-9)


def test_noise_lowers_both_and_small_pictures_do() -> None:
    truth = pictures()
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    for measure in (psnr, ssim):
        values = [float(measure(truth + size * noise, truth).mean()) for size in (0.01, 0.05, 0.2)]
        assert values == sorted(values, reverse=True)
    assert ssim(truth[:, :, :3, :5], truth[:, :, :3, :5]).tolist() == pytest.approx([1.0, 1.0])
