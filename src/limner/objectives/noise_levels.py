"""Noise-level distributions: how training draws levels.

All are functions of uniforms in (0, 1), so that the draw can be keyed by sample and stratified over a batch.
ln(sigma / alpha) is normal under the first two: they differ in the scale that alpha and sigma are written in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from limner.contracts import Level
from limner.noise_schedules import STEPS, NoiseSchedule


@dataclass(frozen=True)
class LogNormal:
    """ln sigma is normal, alpha = 1 (Karras et al. 2022, table 1)."""

    kind: Literal["log-normal"] = "log-normal"
    mean: float = -1.2
    std: float = 1.2

    def __call__(self, u: Tensor) -> Level:
        sigma = (self.mean + self.std * torch.special.ndtri(u)).exp()
        return Level(torch.ones_like(sigma), sigma)


@dataclass(frozen=True)
class LogitNormal:
    """t = sigmoid(normal), alpha = 1 - t, sigma = t (Esser et al. 2024, section 3.1)."""

    kind: Literal["logit-normal"] = "logit-normal"
    mean: float = 0.0
    std: float = 1.0

    def __call__(self, u: Tensor) -> Level:
        t = (self.mean + self.std * torch.special.ndtri(u)).sigmoid()
        return Level(1 - t, t)


@dataclass(frozen=True)
class Discrete:
    """Each level of a noise schedule as often as any other (Ho et al. 2020, algorithm 1)."""

    kind: Literal["discrete"] = "discrete"
    schedule: NoiseSchedule = NoiseSchedule()  # noqa: RUF009 - frozen

    def __call__(self, u: Tensor) -> Level:
        return self._at(self.numbers(u) + 1, u)

    def numbers(self, u: Tensor) -> Tensor:
        """(N,) int64 from 0."""
        return (u * STEPS).long().clamp_max(STEPS - 1)

    def before(self, u: Tensor) -> Level:
        """The next less noisy level to each, for the first the picture itself."""
        return self._at(self.numbers(u), u)

    def _at(self, which: Tensor, u: Tensor) -> Level:
        levels = self.schedule.levels()
        alpha = torch.cat([torch.ones_like(levels.alpha[:1]), levels.alpha])
        sigma = torch.cat([torch.zeros_like(levels.sigma[:1]), levels.sigma])
        return Level(alpha.to(u.device, u.dtype)[which], sigma.to(u.device, u.dtype)[which])


NoiseLevels = LogNormal | LogitNormal | Discrete
