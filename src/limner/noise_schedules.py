"""Noise schedules: the levels of a discrete diffusion and of a flow, and what lies between two levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from limner.contracts import Level
from limner.errors import UserError, nearest

#: Steps of every published discrete diffusion.
STEPS = 1000


def _linear() -> Tensor:
    """1e-4 to 0.02 (Ho et al. 2020, section 4)."""
    return torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)


def _scaled_linear() -> Tensor:
    """Even in the root of beta, 0.00085 to 0.012 (Rombach et al. 2022, as their code has it)."""
    return torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64).square()


def _cosine() -> Tensor:
    """Nichol and Dhariwal 2021, equation 17, with s = 0.008 and beta at most 0.999."""
    turn = (torch.arange(STEPS + 1, dtype=torch.float64) / STEPS + 0.008) / 1.008 * math.pi / 2
    kept = turn.cos().square()
    return (1 - kept[1:] / kept[:-1]).clamp_max(0.999)


BETAS: dict[str, Callable[[], Tensor]] = {"linear": _linear, "scaled-linear": _scaled_linear, "cosine": _cosine}
"""Variances of the forward steps, (STEPS,) float64, by name."""


@dataclass(frozen=True)
class NoiseSchedule:
    """A discrete, variance-preserving diffusion: alpha² = the product of 1 - beta, alpha² + sigma² = 1.

    Attributes:
        name: of :data:`BETAS`.
        zero_terminal_snr: move the last level to alpha = 0 (Lin et al. 2023, algorithm 1), so that training sees what
            sampling begins with. A network that says the noise cannot be taught there: it needs v, the flow or x0.

    Raises:
        UserError: an unknown name.
    """

    name: str = "linear"
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        if self.name not in BETAS:
            raise UserError(f"noise schedule '{self.name}' is unknown{nearest(self.name, BETAS)}")

    def levels(self) -> Level:
        """(STEPS,) float64; the first is the least noisy."""
        return _levels(self)


@lru_cache(maxsize=16)
def _levels(schedule: NoiseSchedule) -> Level:
    alpha = (1 - BETAS[schedule.name]()).cumprod(0).sqrt()
    if schedule.zero_terminal_snr:
        alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return Level(alpha, (1 - alpha.square()).sqrt())


def flow_level(position: Tensor, shift: float) -> Level:
    """On the line of rectified flow at t = s p / (1 + (s - 1) p) (Esser et al. 2024, equation 23), for positions p in
    [0, 1], 1 being noise."""
    noise, signal = shift * position, 1 - position
    # As two shares of one sum, both ends are exact: 1 - t would leave 1e-16 of a picture at t = 1.
    return Level(signal / (signal + noise), noise / (signal + noise))


@dataclass(frozen=True)
class Posterior:
    """q(x_to | x_at, x0) = N(x x_at + x0 x0, variance), as coefficients (N,).

    Attributes:
        x, x0: of the mean.
        small: the variance, beta tilde.
        large: beta, that of the forward step, the largest variance a reverse step may sensibly have.
    """

    x: Tensor
    x0: Tensor
    small: Tensor
    large: Tensor


def posterior(at: Level, to: Level) -> Posterior:
    """What is known of x at ``to`` from x at the noisier ``at`` and the picture (Kingma et al. 2021, appendix A.2; with
    alpha² + sigma² = 1 equations 6 and 7 of Ho et al. 2020). Needs sigma > 0 at ``at``, alpha > 0 at ``to``."""
    forward = at.alpha / to.alpha
    large = (at.sigma.square() - (forward * to.sigma).square()).clamp_min(0)
    share = large / at.sigma.square()
    return Posterior(
        x=forward * to.sigma.square() / at.sigma.square(),
        x0=to.alpha * share,
        small=to.sigma.square() * share,
        large=large,
    )
