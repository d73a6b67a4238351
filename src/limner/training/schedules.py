"""Learning-rate schedules: the factor on the rate as a function of how far a run is.

Called with ``step``, the optimiser's steps, this one included, and ``progress``, the share of the run's images seen;
it is 0 as long as the run's length is not known. ``steady`` is the share of the run, from its beginning, in which the
rate does not depend on ``progress``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from limner.errors import within


def _warm(step: int, warm_up: int) -> float:
    return min(1.0, step / warm_up) if warm_up > 0 else 1.0


@dataclass(frozen=True)
class Cosine:
    """Warm-up, then half a cosine down to zero (Loshchilov and Hutter 2016).

    Attributes:
        warm_up: steps in which the rate rises from zero.
    """

    kind: Literal["cosine"] = "cosine"
    warm_up: int = 30

    def __post_init__(self) -> None:
        within("schedule.warm-up", self.warm_up, 0)

    @property
    def steady(self) -> float:
        return 0.0

    def __call__(self, step: int, progress: float) -> float:
        return _warm(step, self.warm_up) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@dataclass(frozen=True)
class Cooldown:
    """Warm-up, constant, then a straight line down to zero (Hägele et al. 2024).

    Attributes:
        warm_up: steps in which the rate rises from zero.
        cool_down: share of the run, at its end, in which it falls to zero.
    """

    kind: Literal["cooldown"] = "cooldown"
    warm_up: int = 30
    cool_down: float = 0.5

    def __post_init__(self) -> None:
        within("schedule.warm-up", self.warm_up, 0)
        within("schedule.cool-down", self.cool_down, 0, 1)

    @property
    def steady(self) -> float:
        return 1 - self.cool_down

    def __call__(self, step: int, progress: float) -> float:
        falling = (1 - progress) / self.cool_down if self.cool_down > 0 else 1.0
        return max(0.0, min(_warm(step, self.warm_up), falling))


@dataclass(frozen=True)
class Constant:
    """Warm-up, then constant.

    Attributes:
        warm_up: steps in which the rate rises from zero.
    """

    kind: Literal["constant"] = "constant"
    warm_up: int = 30

    def __post_init__(self) -> None:
        within("schedule.warm-up", self.warm_up, 0)

    @property
    def steady(self) -> float:
        return 1.0

    def __call__(self, step: int, progress: float) -> float:
        return _warm(step, self.warm_up)


Schedule = Cosine | Cooldown | Constant
