from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.models.discrete import logistic, normal


@given(st.floats(-1.5, 1.5), st.floats(-7, 2), st.sampled_from([2, 16, 256]))
def test_probabilities_of_all_levels_are_one(mean: float, log_scale: float, levels: int) -> None:
    x = torch.linspace(-1, 1, levels, dtype=torch.float64)
    told = logistic(x, torch.tensor(mean).double(), torch.tensor(log_scale).double(), levels)
    assert float(told.exp().sum()) == pytest.approx(1, abs=1e-9)
    assert bool(told.isfinite().all())


def test_a_narrow_distribution_far_away_has_slopes() -> None:
    """Where the difference of two sigmoids would be 0, and its logarithm nothing that a gradient comes from."""
    mean = torch.tensor(-0.9, requires_grad=True)
    told = logistic(torch.tensor(0.9), mean, torch.tensor(-7.0), 256)
    told.backward()
    assert math.isfinite(float(told.detach()))
    assert mean.grad is not None
    assert float(mean.grad) == pytest.approx(math.exp(7), rel=1e-3)


@given(st.floats(-0.5, 0.5), st.floats(-3, 0))
def test_a_density_spread_over_levels(mean: float, log_scale: float) -> None:
    """Of values anywhere within their levels, its integral over all is that of the normal density over the range."""
    levels, fine = 16, 2000
    x = torch.linspace(-1, 1, fine, dtype=torch.float64)
    told = normal(x, torch.tensor(mean).double(), torch.tensor(log_scale).double(), levels)
    integral = float(torch.trapezoid(told.exp(), x)) * (levels - 1) / 2
    edges = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    below, above = torch.special.ndtr((edges - mean) / math.exp(log_scale)).tolist()
    assert integral == pytest.approx(above - below, abs=1e-4)
