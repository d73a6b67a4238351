"""Time discretizations: which levels a solver visits, from noise to picture.

Each returns a :class:`Level` of (steps + 1,) tensors that ends at sigma = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from limner.contracts import Level, RefineConfig
from limner.errors import UserError, nearest
from limner.noise_schedules import STEPS, NoiseSchedule, flow_level


@dataclass(frozen=True)
class FlowTimes:
    """t from 1 (noise) to 0 (picture) on the flow's line alpha = 1 - t, sigma = t.

    ``shift`` s moves even times to s t / (1 + (s - 1) t) (Esser et al. 2024, equation 23): above 1, more steps at
    high noise.
    """

    kind: Literal["flow"] = "flow"
    shift: float = 1.0

    def levels(self, steps: int) -> Level:
        even = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
        level = flow_level(even, self.shift)
        return Level(level.alpha.float(), level.sigma.float())


@dataclass(frozen=True)
class EDMTimes:
    """sigma from ``sigma_max`` to ``sigma_min``, even in sigma^(1 / rho), then 0, with alpha = 1 (EDM, equation 5)."""

    kind: Literal["edm"] = "edm"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def levels(self, steps: int) -> Level:
        ramp = torch.linspace(0.0, 1.0, steps, dtype=torch.float64)
        top, bottom = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        sigma = torch.cat([(top + ramp * (bottom - top)) ** self.rho, torch.zeros(1, dtype=torch.float64)])
        return Level(torch.ones(steps + 1), sigma.float())


def _leading(steps: int, levels: int) -> Tensor:
    return torch.arange(steps, dtype=torch.float64).flip(0) * (levels // steps)


def _linspace(steps: int, levels: int) -> Tensor:
    return torch.linspace(levels - 1, 0, steps, dtype=torch.float64).round()


def _trailing(steps: int, levels: int) -> Tensor:
    return (torch.arange(steps, 0, -1, dtype=torch.float64) * (levels / steps)).round() - 1


SPACINGS: dict[str, Callable[[int, int], Tensor]] = {"leading": _leading, "linspace": _linspace, "trailing": _trailing}
"""(steps, levels) to the numbers of the levels visited, the noisiest first (Lin et al. 2023, table 2). Only "leading"
leaves the noisiest out, and then begins with noise that was never trained on."""


@dataclass(frozen=True)
class DiscreteTimes:
    """Levels of a noise schedule, evenly spaced by number, then the picture.

    Raises:
        UserError: an unknown spacing.
    """

    kind: Literal["discrete"] = "discrete"
    schedule: NoiseSchedule = NoiseSchedule()  # noqa: RUF009 - frozen
    spacing: str = "trailing"

    def __post_init__(self) -> None:
        if self.spacing not in SPACINGS:
            raise UserError(f"spacing '{self.spacing}' is unknown{nearest(self.spacing, SPACINGS)}")

    def levels(self, steps: int) -> Level:
        """As for the others.

        Raises:
            UserError: more steps than the schedule has levels.
        """
        if steps > STEPS:
            raise UserError(f"{steps} steps are more than the {STEPS} levels of the noise schedule")
        every = self.schedule.levels()
        which = SPACINGS[self.spacing](steps, STEPS).long()
        one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        alpha, sigma = torch.cat([every.alpha[which], one]), torch.cat([every.sigma[which], zero])
        return Level(alpha.float(), sigma.float())


Discretization = FlowTimes | EDMTimes | DiscreteTimes


def _discrete(config: RefineConfig) -> Discretization:
    return DiscreteTimes(
        schedule=NoiseSchedule(config.noise_schedule, config.zero_terminal_snr), spacing=config.spacing
    )


DISCRETIZATIONS: dict[str, Callable[[RefineConfig], Discretization]] = {
    "flow": lambda config: FlowTimes(shift=config.shift),
    "edm": lambda config: EDMTimes(sigma_min=config.sigma_min, sigma_max=config.sigma_max, rho=config.rho),
    "discrete": _discrete,
}
