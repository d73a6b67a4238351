"""Counted costs: floating-point operations as torch counts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from limner import random
from limner.contracts import Condition, ImageSpec
from limner.objectives import Batch, Context, Objective


def counted(work: Callable[[], object]) -> float:
    """Floating-point operations of matrix products and convolutions in ``work``, a multiplication and an addition
    being two."""
    counter = _counter()
    with counter:
        work()
    return float(counter.total)


def _counter() -> Any:
    """Torch's own FlopCounterMode follows modules too, by hooks that a gradient inside a loss breaks (2.13)."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    aten = torch.ops.aten
    # Torch counts attention on GPUs alone.
    formulae = {
        **flop_registry,
        aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[aten._scaled_dot_product_flash_attention],
        aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
            aten._scaled_dot_product_flash_attention_backward
        ],
    }

    class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        total = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            known, given = formulae.get(func._overloadpacket), kwargs or {}
            if known is None:
                with self:  # what is made of several operations is counted by them
                    parts = func.decompose(*args, **given)
                if parts is not NotImplemented:
                    return parts
            out = func(*args, **given)
            if known is not None:
                self.total += known(*args, **given, out_val=out)
            return out

    return Counter()  # type: ignore[no-untyped-call]


def flops_per_image(objective: Objective, spec: ImageSpec, *, labelled: bool) -> float:
    """Of one training image: the forward and backward passes of all updates, without what optimisers do.

    Args:
        objective: what is trained; it is left as it was, without gradients. On the device "meta" nothing is computed.
        spec: of the pictures; none is read.
        labelled: whether it sees their classes.
    """
    device = next(objective.parameters()).device
    label = torch.zeros(2, dtype=torch.int64, device=device) if labelled else None
    dtype = next(objective.parameters()).dtype
    images = torch.zeros(2, *spec.shape, device=device, dtype=dtype)
    batch = Batch(images, Condition(label), torch.arange(2, device=device))
    updates, before = objective.updates(), [(b, b.detach().clone()) for b in objective.buffers()]
    most, total = max(update.repeat for update in updates), 0.0
    shared: dict[str, torch.Tensor] = {}
    taught = [p for p in objective.parameters() if p.requires_grad]
    for update in updates:
        objective.requires_grad_(False)
        for name in update.params:
            objective.get_submodule(name).requires_grad_(True)
        context = Context(0, batch.samples, update.name, 0.0, shared, dtype)

        def work(update=update, context=context) -> None:  # type: ignore[no-untyped-def]
            update.loss(batch, context)["loss"].backward()

        with random.rewound():
            total += counted(work) / len(batch.samples) * update.repeat / update.every / most
    objective.requires_grad_(False).zero_grad(set_to_none=True)
    for parameter in taught:
        parameter.requires_grad_(True)
    with torch.no_grad():
        for buffer, value in before:
            buffer.copy_(value)
    return total
