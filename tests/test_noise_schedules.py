"""Noise schedules against diffusers', posteriors against Bayes' rule."""

from __future__ import annotations

import diffusers
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.contracts import Level
from limner.errors import UserError
from limner.noise_schedules import NoiseSchedule, posterior

PEERS = {
    "linear": {"beta_schedule": "linear"},
    "scaled-linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("zero", [False, True])
def test_levels_are_those_of_diffusers(name: str, zero: bool) -> None:
    betas = diffusers.DDPMScheduler(**PEERS[name]).betas
    kept = (1 - (rescale_zero_terminal_snr(betas) if zero else betas)).cumprod(0)
    levels = NoiseSchedule(name, zero_terminal_snr=zero).levels()
    torch.testing.assert_close(levels.alpha.square().float(), kept, rtol=2e-3, atol=1e-5)
    torch.testing.assert_close((levels.alpha**2 + levels.sigma**2), torch.ones(1000, dtype=torch.float64))
    assert bool((levels.alpha.diff() < 0).all())
    assert (float(levels.alpha[-1]) == 0) == zero


def one(alpha: float, sigma: float) -> Level:
    return Level(torch.tensor([alpha], dtype=torch.float64), torch.tensor([sigma], dtype=torch.float64))


@settings(deadline=None)
@given(st.floats(0, 2), st.floats(0.1, 3), st.floats(0.1, 2), st.floats(0, 1), st.floats(-2, 2), st.floats(-3, 3))
def test_posterior_by_bayes_rule(
    alpha: float, sigma: float, to_alpha: float, share: float, x0: float, x: float
) -> None:
    """x_to ~ N(to_alpha x0, to_sigma²), and x = (alpha / to_alpha) x_to + noise: the joint Gaussian, given x."""
    to_sigma = share * 0.999 * sigma * to_alpha / max(alpha, to_alpha * sigma)  # less noisy than the start
    forward = alpha / to_alpha
    added = sigma**2 - (forward * to_sigma) ** 2
    known = posterior(one(alpha, sigma), one(to_alpha, to_sigma))
    gain = forward * to_sigma**2 / sigma**2  # the covariance of x_to and x by the variance of x
    expected = to_alpha * x0 + gain * (x - alpha * x0)
    variance = to_sigma**2 - gain * forward * to_sigma**2
    assert float(known.x * x + known.x0 * x0) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert float(known.small) == pytest.approx(variance, rel=1e-6, abs=1e-9)
    assert float(known.large) == pytest.approx(added, rel=1e-6, abs=1e-9)


def test_posterior_of_pure_noise_is_the_picture_with_noise() -> None:
    known = posterior(one(0.0, 1.0), one(0.6, 0.8))
    assert (float(known.x), float(known.x0)) == (0.0, 0.6)
    assert float(known.small) == pytest.approx(0.64)


def test_a_mistyped_schedule() -> None:
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        NoiseSchedule("cosin")
