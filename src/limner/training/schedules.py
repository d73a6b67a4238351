"""Learning-rate schedules: the factor on the rate as a function of progress, the share of the run's images seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


def _warm(progress: float, warm_up: float) -> float:
    return min(1.0, progress / warm_up) if warm_up > 0 else 1.0


@dataclass(frozen=True)
class Cosine:
    """Warm-up, then half a cosine down to zero (Loshchilov and Hutter 2016).

    Attributes:
        warm_up: share of the run in which the rate rises from zero.
    """

    kind: Literal["cosine"] = "cosine"
    warm_up: float = 0.05

    def __call__(self, progress: float) -> float:
        rest = max(0.0, progress - self.warm_up) / (1 - self.warm_up)
        return _warm(progress, self.warm_up) * 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))


@dataclass(frozen=True)
class Cooldown:
    """Warm-up, constant, then a straight line down to zero (Hägele et al. 2024).

    Attributes:
        warm_up: share of the run in which the rate rises from zero.
        cool_down: share of the run, at its end, in which it falls to zero.
    """

    kind: Literal["cooldown"] = "cooldown"
    warm_up: float = 0.05
    cool_down: float = 0.4

    def __call__(self, progress: float) -> float:
        falling = (1 - progress) / self.cool_down if self.cool_down > 0 else 1.0
        return max(0.0, min(_warm(progress, self.warm_up), falling))


@dataclass(frozen=True)
class Constant:
    """Warm-up, then constant.

    Attributes:
        warm_up: share of the run in which the rate rises from zero.
    """

    kind: Literal["constant"] = "constant"
    warm_up: float = 0.05

    def __call__(self, progress: float) -> float:
        return _warm(progress, self.warm_up)


Schedule = Cosine | Cooldown | Constant
