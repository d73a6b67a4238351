from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.sampling import EDMTimes, FlowTimes
from limner.sampling.discretization import Discretization


@settings(deadline=None)
@given(st.integers(2, 60), st.floats(1e-3, 0.1), st.floats(1, 200), st.floats(1, 12))
def test_edm_levels_by_the_paper(steps: int, lowest: float, highest: float, rho: float) -> None:
    """Equation 5 of Karras et al. 2022, in plain Python."""
    levels = EDMTimes(sigma_min=lowest, sigma_max=highest, rho=rho).levels(steps)
    top, bottom = highest ** (1 / rho), lowest ** (1 / rho)
    expected = [(top + i / (steps - 1) * (bottom - top)) ** rho for i in range(steps)]
    assert levels.sigma.tolist() == pytest.approx([*expected, 0.0], rel=1e-6)
    assert levels.alpha.tolist() == [1.0] * (steps + 1)


@settings(deadline=None)
@given(st.integers(1, 60), st.floats(0.1, 10))
def test_flow_shift_multiplies_the_ratio_of_noise_to_signal(steps: int, shift: float) -> None:
    """Esser et al. 2024, equation 23: t / (1 - t) grows by the factor; the line of unit sum stays."""
    even, shifted = FlowTimes().levels(steps), FlowTimes(shift=shift).levels(steps)
    torch.testing.assert_close(even.sigma, torch.linspace(1, 0, steps + 1))
    torch.testing.assert_close(shifted.sigma * even.alpha, shift * even.sigma * shifted.alpha, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shifted.alpha + shifted.sigma, torch.ones(steps + 1))
    assert float(shifted.alpha[0]) == 0


@pytest.mark.parametrize("times", [FlowTimes(), FlowTimes(shift=3.0), FlowTimes(shift=0.2), EDMTimes()])
@pytest.mark.parametrize("steps", [1, 2, 18, 1000])
def test_noise_falls_with_every_step_and_ends_at_exactly_zero(times: Discretization, steps: int) -> None:
    levels = times.levels(steps)
    share = levels.sigma.double() / (levels.alpha.double() + levels.sigma.double())
    assert len(share) == steps + 1
    assert bool((share.diff() < 0).all())
    assert float(levels.sigma[-1]) == 0
    assert float(levels.alpha[-1]) == 1
