"""Counted costs: floating-point operations as torch counts them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from limner.objectives import Context
from limner.training.trainer import Trainer


def counted(work: Callable[[], object]) -> float:
    """Floating-point operations of matrix products and convolutions in ``work``, a multiplication and an addition
    being two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return float(counter.get_total_flops())


def flops_per_image(trainer: Trainer) -> float:
    """Of one training image: the forward pass of every update, and twice that for its backward pass."""
    batch = trainer.batches(0, 2)
    total = 0.0
    for update in trainer.updates:
        context = Context(trainer.seed, batch.samples, update.name, 0.0)
        forward = counted(lambda update=update, context=context: update.loss(batch, context))  # type: ignore[misc]
        total += 3 * forward / len(batch.samples) * update.repeat / update.every
    return total
