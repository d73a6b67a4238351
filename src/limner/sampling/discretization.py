"""Time discretizations: which levels a solver visits, from noise to picture.

Each returns a :class:`Level` of (steps + 1,) tensors that ends at sigma = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from limner.contracts import Level


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
        noise, signal = self.shift * even, 1 - even
        # As two shares of one sum, both ends are exact: 1 - t would leave 1e-16 of a picture at t = 1.
        return Level((signal / (signal + noise)).float(), (noise / (signal + noise)).float())


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


Discretization = FlowTimes | EDMTimes
DISCRETIZATIONS: dict[str, Callable[[], Discretization]] = {"flow": FlowTimes, "edm": EDMTimes}
