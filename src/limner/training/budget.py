"""How long a run will be: a budget in minutes becomes a number of images while the run is in its first half."""

from __future__ import annotations

from dataclasses import dataclass, replace

from limner.contracts import Precision
from limner.training.config import TrainingConfig, WatchConfig

#: Share of a budget in minutes after which its images are settled for good, below the half at which the rate begins to
#: fall; and the most seconds after which they are settled first, so that there are checkpoints from then on.
_MEASURING, _LONGEST = 0.45, 30.0
#: A run that has seen this share of its images keeps its length, for the same reason.
_FIXED = 0.47
#: Share of a budget that grids and measures on the way may take, and, on top of it at the end, the judgement and before
#: it the choice of a guidance.
_WATCHING, _JUDGING, _CHOOSING = 0.02, 0.06, 0.04
#: Samples of a guidance that is tried: fewer tell nothing, and more nothing else.
_TELLING, _ENOUGH = 300, 2_000
#: Kept back: machines slow down when they get warm, and neighbours come and go.
_RESERVE = 0.03
#: Share of a budget that goes into training even if set-up, such as the decoding of the pictures, took all of it.
_LEAST = 0.1
#: Share of a budget that is kept back at most for the grid at its end: how long that takes is guessed from the pace of
#: training, which beside another training is far below that of drawing.
_LAST = 0.1
#: A run is so many times as long as its measured beginning, so that its rate has not yet begun to fall.
_AT_LEAST = 2.1
#: A sampler's evaluation costs about a third of a training image: there is no backward pass.
_FORWARD = 1 / 3
_COUNTS = (0, 250, 500, 1_000, 2_000, 5_000)


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        images: to see, a multiple of what an iteration sees.
        precision: of the arithmetic.
        images_per_second: as measured; 0 if the budget was given in images.
        grids, measures: how many times on the way.
        judge: samples judged at the end.
        tries: samples of each guidance that is tried before; 0 tries none.
    """

    images: int
    precision: Precision
    images_per_second: float
    grids: int
    measures: int
    judge: int
    tries: int = 0


@dataclass(frozen=True)
class Pace:
    """How a run of unknown length has begun.

    Attributes:
        seen: images so far.
        images_per_second: of training.
        seconds: of the budget, spent so far.
    """

    seen: int
    images_per_second: float
    seconds: float


def measuring_seconds(minutes: float, config: TrainingConfig) -> tuple[float, float]:
    """After so many seconds of a budget its images are settled, and settled for good.

    The first half of a run is trained in a way that does not depend on how many images will follow, so measuring
    costs nothing, and the run is the one that the same number of images would have made. The first time is soon, so
    that a kill, before which there was no checkpoint, costs little; the second is late, because machines slow down
    when they get warm, and neighbours come and go. Where the settings make the first half depend on the run's length,
    there is no second.
    """
    last = minutes * 60 * _MEASURING
    first = min(last, _LONGEST)
    return first, last if _steady(config) else first


def settled(plan: Plan, seen: int, config: TrainingConfig) -> bool:
    """Whether a run that has seen so many images has its length for good: what comes next depends on it."""
    return seen >= _FIXED * plan.images or not _steady(config)


def _steady(config: TrainingConfig) -> bool:
    """Whether neither rate nor average depends on the run's length before its images are settled for good."""
    average = 1.0
    if config.ema_half_life is None and config.ema_share < config.ema_warm_up:
        average = config.ema_share / config.ema_warm_up
    return min(config.schedule.steady, average) >= _FIXED


def plan_images(images: int, step: int, precision: Precision, watch: WatchConfig) -> Plan:
    """The plan of a budget in images.

    Args:
        images: to see.
        step: images that an iteration sees.
        precision: of the arithmetic.
        watch: what the user asked to be shown.
    """
    return _watched(Plan(_whole(images, step), precision, 0.0, 8, 0, 1_000, 500), watch)


def plan_minutes(
    minutes: float, pace: Pace, step: int, precision: Precision, watch: WatchConfig, *, evaluations: int
) -> Plan:
    """The plan of a budget in minutes, from how the run has begun.

    Args:
        minutes: of wall-clock, set-up included.
        pace: so far.
        step, precision, watch: as for :func:`plan_images`.
        evaluations: of the network, that one sample takes.
    """
    total, rate = minutes * 60, pace.images_per_second
    per_second = rate / _FORWARD / max(evaluations, 1)  # samples
    grid = 2 * watch.pictures / per_second
    grids = min(int(total * _WATCHING / grid), 12) if watch.grids is None else watch.grids
    tries = int(total * _CHOOSING * per_second / max(1, 1 + len(watch.guidances)))
    affordable = [n for n in _COUNTS if n <= total * _JUDGING * per_second]
    left = total * (1 - _RESERVE) - pace.seconds - grids * grid - min(grid, total * _LAST)
    images = max(int(pace.seen + max(left, _LEAST * total) * rate), int(pace.seen * _AT_LEAST))
    images = _whole(images, step)
    tries = min(tries, _ENOUGH) if tries >= _TELLING else 0
    return _watched(Plan(images, precision, rate, grids, 0, affordable[-1], tries), watch)


def _watched(plan: Plan, watch: WatchConfig) -> Plan:
    """What the user asked for goes before what the budget suggests. Who has a few samples judged, or none, wants to be
    done soon: no guidance is tried then."""
    judge = plan.judge if watch.judge is None else watch.judge
    return replace(
        plan,
        grids=plan.grids if watch.grids is None else watch.grids,
        measures=plan.measures if watch.measures is None else watch.measures,
        judge=judge,
        tries=plan.tries if judge >= _TELLING else 0,
    )


def _whole(images: int, step: int) -> int:
    return max(1, round(images / step)) * step
