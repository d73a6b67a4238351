"""A moment of training on throw-away copies: which precision pays here, how fast it is, and what memory it takes."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from limner.contracts import Precision
from limner.objectives import Objective
from limner.training.config import TrainingConfig
from limner.training.describing import peak_memory
from limner.training.trainer import Batches, Trainer

#: Seconds that each of two precisions is tried for, and a single one: enough to tell the pace.
_COMPARED, _ALONE = 0.5, 0.2


@dataclass(frozen=True)
class Trial:
    """What was found.

    Attributes:
        precision: of the arithmetic.
        images_per_second: of one process; 0 if it was not tried.
        memory: bytes that the process, or its device, held at most; 0 if it was not tried.
    """

    precision: Precision
    images_per_second: float = 0.0
    memory: int = 0


def tried(
    objective: Objective,
    config: TrainingConfig,
    batches: Batches,
    *,
    seed: int,
    clock: Callable[[], float] = time.monotonic,
) -> Trial:
    """The precision asked for; for "auto", the faster one where the device may have bfloat16 at all."""
    device = next(objective.parameters()).device
    choices: tuple[Precision, ...]
    if config.precision != "auto":
        choices = (config.precision,)
    else:
        choices = ("bfloat16", "float32") if has_bfloat16(device) else ("float32",)
    seconds = _COMPARED if len(choices) > 1 else _ALONE
    pace = {one: _throughput(objective, config, batches, one, seed, clock, seconds) for one in choices}
    # Near a tie the wider type wins: what it costs in speed it saves in worry.
    chosen = max(choices, key=lambda one: pace[one] * (1.1 if one == "float32" else 1.0))
    return Trial(chosen, pace[chosen], peak_memory(device))


def has_bfloat16(device: torch.device) -> bool:
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
    clock: Callable[[], float],
    seconds: float,
) -> float:
    """Images per second of a throw-away copy, without its first iteration."""
    trainer = Trainer(copy.deepcopy(objective), config, batches, images=None, precision=precision, seed=seed)
    trainer.iterate()
    begun, first = clock(), trainer.progress.seen
    while True:
        logged = trainer.iterate()
        float(logged[next(iter(logged))])  # wait for the device
        if clock() - begun >= seconds:
            return (trainer.progress.seen - first) / (clock() - begun)
