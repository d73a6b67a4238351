"""What processes say to each other; ``test_distributed.py`` has two or three at once."""

from __future__ import annotations

import math
import os
import sys
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn

from limner.distributed import Lost, Reducer, World, join
from limner.errors import UserError


def sums(world: World) -> None:
    assert world.add_up(torch.tensor([1.0, world.rank])).tolist() == [world.size, sum(range(world.size))]
    assert world.add_up(torch.full((3,), world.rank, dtype=torch.uint8)).tolist() == [sum(range(world.size))] * 3
    assert world.most(world.rank, -world.rank, 7) == (world.size - 1, 0, 7)
    assert math.isnan(world.add_up(torch.tensor([math.nan if world.rank else 1.0])).item())


def shares(world: World) -> None:
    for count in (0, 1, 2, 5, 16, 17):
        low, high = world.share(count)
        taken = torch.zeros(count)
        taken[low:high] = 1
        assert world.add_up(taken).tolist() == [1] * count
        assert abs((high - low) - count / world.size) < 1


def leading(world: World) -> None:
    assert world.lead(lambda: [world.rank, "x", None]) == [0, "x", None]

    def refuse() -> int:
        raise UserError("no such folder")

    with pytest.raises(UserError, match=r"^no such folder$"):
        world.lead(refuse)
    assert world.lead(lambda: 1) == 1


def gradients(world: World) -> None:
    """Of one parameter all have a gradient, of one only the last process, of one nobody, of one in its own layout."""
    shapes = [(3,), (2, 2), (4,), (2, 3, 2, 2)]
    parameters = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in shapes]
    parameters[3] = nn.Parameter(torch.zeros(shapes[3], dtype=torch.float64).to(memory_format=torch.channels_last))
    reduce = Reducer(world, parameters)
    last = world.rank == world.size - 1
    for turn in (1.0, 2.0):
        parameters[0].grad = torch.full(shapes[0], turn * (world.rank + 1), dtype=torch.float64)
        parameters[1].grad = torch.full(shapes[1], turn, dtype=torch.float64) if last else None
        parameters[2].grad = None
        values = torch.arange(24, dtype=torch.float64).reshape(shapes[3]) * turn
        parameters[3].grad = values.to(memory_format=torch.channels_last) if last else values
        told = reduce(torch.tensor([turn, float(world.rank)], dtype=torch.float64))
        assert told.tolist() == [turn * world.size, sum(range(world.size))]
        first, second, third, fourth = (p.grad for p in parameters)
        assert first is not None
        assert second is not None
        assert fourth is not None
        assert first.tolist() == [turn * sum(range(1, world.size + 1))] * 3
        assert second.tolist() == [[turn] * 2] * 2
        assert third is None
        assert torch.equal(fourth, values * world.size)
        assert fourth.stride() == parameters[3].stride()


def patient(world: World) -> None:
    """The first works for longer than any wait between processes lasts."""
    assert world.lead(lambda: time.sleep(5) or "done") == "done"


def broken(world: World) -> None:
    """One fails; the others wait for it in a sum, or in what the first does."""
    if world.rank == world.size - 1:
        time.sleep(0.5)
        print("told" if world.failing() else "silent")
        sys.exit(2)
    try:
        if os.environ["WHERE"] == "sum":
            world.add_up(torch.zeros(1))
        else:
            world.lead(lambda: time.sleep(600))
    except Lost:
        print("told" if world.failing() else "silent")
        sys.exit(2)


def speak(*wanted: str) -> None:
    """As one of several processes."""
    if "patient" in wanted:
        dist.init_process_group("gloo", timeout=timedelta(seconds=2))
    world = join()
    assert join() is world
    known = {f.__name__: f for f in (sums, shares, leading, gradients, patient, broken)}
    for name in wanted:
        known[name](world)
    world.leave()
