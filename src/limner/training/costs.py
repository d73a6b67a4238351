"""Counted costs: floating-point operations as torch counts them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from limner.contracts import Condition, ImageSpec
from limner.objectives import Batch, Context
from limner.training.trainer import Trainer


def counted(work: Callable[[], object]) -> float:
    """Floating-point operations of matrix products and convolutions in ``work``, a multiplication and an addition
    being two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return float(counter.get_total_flops())


def flops_per_image(trainer: Trainer, spec: ImageSpec, *, labelled: bool) -> float:
    """Of one training image: the forward pass of every update, and twice that for its backward pass.

    Args:
        trainer: what is trained.
        spec: of the pictures; none is read.
        labelled: whether it sees their classes.
    """
    device = trainer.device
    label = torch.zeros(2, dtype=torch.int64, device=device) if labelled else None
    batch = Batch(torch.zeros(2, *spec.shape, device=device), Condition(label), torch.arange(2, device=device))
    total = 0.0
    for update in trainer.updates:
        context = Context(trainer.seed, batch.samples, update.name, 0.0)
        forward = counted(lambda update=update, context=context: update.loss(batch, context))  # type: ignore[misc]
        total += 3 * forward / len(batch.samples) * update.repeat / update.every
    return total
