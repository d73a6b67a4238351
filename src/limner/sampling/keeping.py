"""What is kept of pictures while they are written, and how many are written together where memory is short.

What is counted are the tensors that last from site to site: keys and values, rows that the next one hears, what places
tell; of guided pictures twice. What is not counted is what comes and goes within a site, a few tensors of one site's
width and its logits, the random numbers and values of all sites (a few bytes for each), the weights, and the pictures
themselves: beside keys and values they are small.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limner.contracts import Autoregressor, Condition
from limner.distributed import World
from limner.errors import UserError, within
from limner.memory import free_memory

GIB = 2**30
#: Share of the free memory that is taken where no limit is stated: the rest is for what is not counted, and for others.
_SHARE = 0.5


@dataclass(frozen=True)
class Kept:
    """Bytes that are kept while pictures are written.

    Attributes:
        each: of every picture.
        shared: of all of them together, such as what places tell.
    """

    each: int
    shared: int

    def of(self, n: int) -> int:
        """Of n pictures."""
        return self.shared + n * self.each


@dataclass(frozen=True)
class Together:
    """How many pictures are drawn together, and what is kept of them: None where a model does not write."""

    batch: int
    kept: Kept | None = None


@torch.no_grad()
def kept_by(net: Autoregressor, cond: Condition = Condition()) -> Kept:  # noqa: B008 - frozen
    """What a network keeps of pictures that are told what ``cond`` tells, however many these are.

    A copy of it without numbers, on the device "meta", is asked for what it keeps of one picture and of two."""
    numbers = itertools.chain(net.parameters(), net.buffers())
    shapes = copy.deepcopy(net, {id(one): one.detach().to("meta") for one in numbers})
    one, two = (
        sum(tensor.nbytes for tensor in tensors_of(shapes.init_state(n, _of(cond, n).to("meta"))[0])) for n in (1, 2)
    )
    return Kept(two - one, 2 * one - two)


def _of(cond: Condition, n: int) -> Condition:
    """What n pictures are told, of whatever is told the first."""
    return cond.index(torch.zeros(n, dtype=torch.int64))


def tensors_of(state: Any) -> Iterator[Tensor]:
    """All tensors of what a network keeps: in dataclasses, lists and tuples."""
    if isinstance(state, Tensor):
        yield state
    elif dataclasses.is_dataclass(state):
        for field in dataclasses.fields(state):
            yield from tensors_of(getattr(state, field.name))
    elif isinstance(state, list | tuple):
        for one in state:
            yield from tensors_of(one)


def fitting(kept: Kept, most: int, memory: float | None, device: torch.device, world: World) -> Together:
    """As many pictures as fit, at least one and at most ``most``; the same number in every process.

    Args:
        memory: GiB that may be kept; None takes a part of what is free, infinity all that ``most`` asks for.

    Raises:
        UserError: one picture takes more than this, or than all that is free.
    """
    if memory is None:
        free = free_memory(device)
        # The least of all processes, which share a machine's memory, and have a GPU each.
        told = 2**62 if free is None else free // (world.size if device.type == "cpu" else 1)
        whole = float(-world.most(-told)[0])
        room, where = _SHARE * whole, f"{whole / GIB:.2g} GiB are free"
    else:
        within("memory", memory, 0)
        room, where = memory * GIB, f"the limit is {memory:g} GiB"
        whole = room
    if kept.of(1) > whole:
        needed = math.ceil(kept.of(1) / GIB * 100) / 100
        raise UserError(
            f"{needed:g} GiB are kept of one picture while it is written, and {where}; give --memory {needed:g}"
            + ("" if memory is not None else " to try it all the same")
        )
    if kept.of(most) <= room:
        return Together(most, kept)
    return Together(max(1, int((room - kept.shared) // max(kept.each, 1))), kept)
