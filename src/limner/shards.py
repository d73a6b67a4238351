"""Tensors of which each process holds some rows: those of networks that outgrow one device.

``fully_shard`` cuts a tensor along its first dimension into pieces of ceil(rows / processes) rows; the last processes
may hold fewer, or none. Whole tensors pass through all of these functions as they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

from limner.distributed import World, in_company


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process holds some rows of the tensor (a DTensor, as ``fully_shard`` makes them)."""
    return hasattr(tensor, "to_local")


@torch.no_grad()
def local(tensor: Tensor) -> Tensor:
    """The rows that this process holds, in the tensor's own memory; the tensor itself where it is whole."""
    return cast(Tensor, tensor.to_local()) if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def rows(whole: Tensor, like: Tensor) -> Tensor:
    """Of a whole tensor the rows that this process holds of the sharded tensor ``like``."""
    if not is_sharded(like):
        return whole
    chunk = math.ceil(like.shape[0] / dist.get_world_size())
    return whole[chunk * dist.get_rank() : chunk * (dist.get_rank() + 1)]


@torch.no_grad()
def put(target: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    local(target).copy_(rows(whole, target))


@torch.no_grad()
def gathered(parts: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """Whole tensors from the rows that each process holds of them, in one message; all are of one kind of number.

    Args:
        parts: what this process holds.
        like: sharded tensors of the same shapes; where they are whole, so are the parts, which are returned.
    """
    out = list(parts)
    cut = [i for i, tensor in enumerate(like) if is_sharded(tensor)]
    if not cut:
        return out
    size = dist.get_world_size()
    chunks = [math.ceil(like[i].shape[0] / size) for i in cut]
    sizes = [chunk * math.prod(like[i].shape[1:]) for i, chunk in zip(cut, chunks, strict=True)]
    mine = parts[cut[0]].new_zeros(sum(sizes))
    begins = list(itertools.accumulate(sizes, initial=0))[:-1]
    for i, begin in zip(cut, begins, strict=True):
        mine[begin : begin + parts[i].numel()] = parts[i].reshape(-1)
    everything = mine.new_empty(size, len(mine))
    with in_company():
        dist.all_gather(list(everything.unbind()), mine)
    for i, begin, count, chunk in zip(cut, begins, sizes, chunks, strict=True):
        padded = everything[:, begin : begin + count].reshape(size * chunk, *like[i].shape[1:])
        out[i] = padded[: like[i].shape[0]]
    return out


@torch.no_grad()
def on_first(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """The tensors, whole, on the CPU of the first process; nothing on the others. Sharded ones are put together one at
    a time, so that no device has to hold more than the largest."""
    out = {}
    for name, value in tensors.items():
        whole = gathered([local(value)], [value])[0]
        if world.first:
            out[name] = whole.detach().cpu()
    return out
