"""How long a run will be: a budget in minutes becomes a number of images, once, before the first image."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from limner.objectives import Objective
from limner.training.config import Budget, Precision, TrainingConfig, WatchConfig
from limner.training.schedules import Constant
from limner.training.trainer import Batches, Trainer

#: Share of a budget in minutes that goes into measuring, in seconds at least and at most.
_MEASURING, _SHORTEST, _LONGEST = 0.04, 2.0, 15.0
#: Share of a budget that grids and measures on the way may take, and the judgement at the end.
_WATCHING, _JUDGING = 0.03, 0.06
#: Kept back: machines slow down when they get warm, and neighbours come and go.
_RESERVE = 0.05
#: A sampler's evaluation costs about a third of a training image: there is no backward pass.
_FORWARD = 1 / 3
_COUNTS = (0, 250, 500, 1_000, 2_000, 5_000)


@dataclass(frozen=True)
class Plan:
    """What a run will do, settled before its first image and never measured again.

    Attributes:
        images: to see, a multiple of what an iteration sees.
        precision: of the arithmetic.
        images_per_second: as measured; 0 if the budget was given in images.
        grids, measures: how many times on the way.
        judge: samples judged at the end.
        seconds_measuring: what measuring took.
    """

    images: int
    precision: Precision
    images_per_second: float
    grids: int
    measures: int
    judge: int
    seconds_measuring: float = 0.0


def plan(
    budget: Budget,
    objective: Objective,
    config: TrainingConfig,
    watch: WatchConfig,
    batches: Batches,
    *,
    evaluations: int,
    started: float,
    seed: int,
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """Turn a budget into a plan.

    Args:
        budget: minutes or images.
        objective: what will be trained; only throw-away copies are touched.
        config, watch: the run's settings.
        batches: where its data comes from.
        evaluations: of the network, that one sample takes.
        started: when the run began, on ``clock``: set-up counts.
        seed: of the run.
        clock: seconds, steadily rising.
    """
    begun = clock()
    if budget.images is not None:
        precision = _cheapest(objective, config, batches, seed, 0.5, clock)[0] if config.precision == "auto" else None
        settled = precision or _explicit(config)
        whole = _whole(budget.images, _fresh(objective) * config.batch)
        return _watched(Plan(whole, settled, 0.0, 8, 0, 1_000, clock() - begun), watch)
    assert budget.minutes is not None
    total = budget.minutes * 60
    precision, rate = _cheapest(
        objective, config, batches, seed, min(max(total * _MEASURING, _SHORTEST), _LONGEST), clock
    )
    per_second = rate / _FORWARD / max(evaluations, 1)  # samples
    grid = 2 * watch.pictures / per_second
    grids = int(total * _WATCHING / grid) if watch.grids is None else watch.grids
    grids = min(grids, 12) if watch.grids is None else grids
    affordable = [n for n in _COUNTS if n <= total * _JUDGING * per_second]
    left = total * (1 - _RESERVE) - (clock() - started) - (grids + 1) * grid
    images = _whole(int(max(left, 0.1 * total) * rate), _fresh(objective) * config.batch)
    return _watched(Plan(images, precision, rate, grids, 0, affordable[-1], clock() - begun), watch)


def _watched(settled: Plan, watch: WatchConfig) -> Plan:
    """What the user asked for goes before what the budget suggests."""
    return replace(
        settled,
        grids=settled.grids if watch.grids is None else watch.grids,
        measures=settled.measures if watch.measures is None else watch.measures,
        judge=settled.judge if watch.judge is None else watch.judge,
    )


def _explicit(config: TrainingConfig) -> Precision:
    return "bfloat16" if config.precision == "bfloat16" else "float32"


def _fresh(objective: Objective) -> int:
    return max(update.repeat for update in objective.updates())


def _whole(images: int, step: int) -> int:
    return max(1, round(images / step)) * step


def _cheapest(
    objective: Objective,
    config: TrainingConfig,
    batches: Batches,
    seed: int,
    seconds: float,
    clock: Callable[[], float],
) -> tuple[Precision, float]:
    """The faster precision of those allowed, and its images per second."""

    def throughput(precision: Precision, seconds: float) -> float:
        return _throughput(objective, config, batches, precision, seed, seconds, clock)

    if config.precision != "auto":
        return _explicit(config), throughput(_explicit(config), seconds)
    if not _has_bfloat16(next(objective.parameters()).device):
        return "float32", throughput("float32", seconds)
    half, full = throughput("bfloat16", seconds / 2), throughput("float32", seconds / 2)
    return ("bfloat16", half) if half > 1.1 * full else ("float32", full)


def _has_bfloat16(device: torch.device) -> bool:
    """Whether the device may compute in bfloat16 itself. Where it is emulated it takes several times as long, and
    seconds to find that out."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return True


def _throughput(
    objective: Objective,
    config: TrainingConfig,
    batches: Batches,
    precision: Precision,
    seed: int,
    seconds: float,
    clock: Callable[[], float],
) -> float:
    """Images per second of a throw-away copy, over about so many seconds, without its first iteration.

    At the full rate: with the tiny rates of a warm-up, weights that begin at zero hold subnormal numbers, which make
    a processor several times slower than it will be.
    """
    steady = replace(config, schedule=Constant(warm_up=0.0))
    trainer = Trainer(copy.deepcopy(objective), steady, batches, images=2**40, precision=precision, seed=seed)
    trainer.iterate()
    begun, first = clock(), trainer.progress.seen
    while True:
        logged = trainer.iterate()
        float(logged[next(iter(logged))])  # wait for the device
        if clock() - begun >= seconds:
            return (trainer.progress.seen - first) / (clock() - begun)
