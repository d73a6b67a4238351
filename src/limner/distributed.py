"""More than one process: which of them this one is, and the little that they say to each other.

``torchrun --nproc-per-node N`` starts them and tells each its number in the environment; :func:`join` brings them
together, by gloo on CPUs and nccl on GPUs. Without torchrun a process is alone, and nothing here does anything.

Processes stay in step: all call the same methods of :class:`World` in the same order. What they compute has to be a
function of what they all know, and where it is not (the clock, a signal, a folder), the first one decides
(:meth:`World.lead`), or all are asked (:meth:`World.most`).
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from limner.errors import UserError, within

T = TypeVar("T")

#: How long a process waits for the others in a sum. What only the first does (:meth:`World.lead`) may take longer.
_TIMEOUT = timedelta(minutes=20)
#: Seconds between two looks for an answer, at most; and after another's failure until this process ends in any case.
_NAP, _GRACE = 0.2, 5.0
_FAILED, _LEFT = "limner/failed", "limner/left"
#: What torchrun tells every process.
_TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Lost(Exception):  # noqa: N818 - whose error it is, the other process says
    """Another process of this run has ended, and nothing can be done without it. ``cause`` is how torch puts it."""

    def __init__(self, cause: str = "") -> None:
        why = f" ({cause.strip().splitlines()[0]})" if cause.strip() else ""
        super().__init__(f"another process of this run has ended{why}; what was saved before is whole")


class Store(Protocol):
    """What is used of torch's stores, which all processes of a run share: names and values."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def check(self, keys: list[str]) -> bool: ...
    def add(self, key: str, amount: int) -> int: ...


def out_of_memory(error: BaseException) -> bool:
    """Whether this is how Python, or torch for whatever device, says that memory has run out."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


@contextmanager
def in_company() -> Iterator[None]:
    """Something that takes all processes; torch's errors in it mean that one of them has ended, unless this one has no
    memory left."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise Lost(str(error)) from error


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        device: what this process computes on.
        store: where small things are told; None if it is alone.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    store: Store | None = field(default=None, repr=False, compare=False)
    _calls: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    def __deepcopy__(self, memo: object) -> World:
        """A copy of a network is in the same company."""
        return self

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def share(self, count: int) -> tuple[int, int]:
        """(begin, end) of this process's consecutive share of so many things, as even as can be."""
        return count * self.rank // self.size, count * (self.rank + 1) // self.size

    def add_up(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place; each gets the same bits.

        Raises:
            Lost: another process has ended.
        """
        if self.size > 1:
            with in_company():
                dist.all_reduce(values)
        return values

    def most(self, *numbers: int) -> tuple[int, ...]:
        """The largest of each number over all processes."""
        if self.size == 1:
            return numbers
        told = torch.tensor(numbers, dtype=torch.int64)
        with in_company():
            dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return tuple(told.tolist())

    def lead(self, work: Callable[[], T]) -> T:
        """Have the first process do ``work`` when all have come, however long it takes, and return on all what it
        returns: plain values that JSON can hold.

        Raises:
            UserError: the work raised it, there and here.
            Lost: the first process has ended.
        """
        if self.store is None:
            return work()
        self.most(0)
        key = f"limner/{next(self._calls)}"
        if self.first:
            try:
                value = work()
            except UserError as error:
                self.store.set(key, json.dumps({"error": str(error)}))
                raise
            self.store.set(key, json.dumps({"value": value}))
            return value
        told = json.loads(self._awaited(self.store, key))
        if "error" in told:
            raise UserError(told["error"])
        answer: T = told["value"]
        return answer

    @staticmethod
    def _awaited(store: Store, key: str) -> bytes:
        nap = 0.001
        with in_company():  # whoever keeps the store may end
            while not store.check([key]):
                if store.check([_FAILED]):
                    raise Lost
                time.sleep(nap)
                nap = min(2 * nap, _NAP)
            return store.get(key)

    def failing(self) -> bool:
        """Tell the others that this process ends with an error, so that they end too; whether it is the first to fail,
        and therefore the one to say why."""
        if self.store is None:
            return True
        try:
            return self.store.add(_FAILED, 1) == 1
        except RuntimeError:
            return False

    def leave(self) -> None:
        """End in good order: the first process, which may keep the store, goes last."""
        if self.store is None:
            return
        try:
            left, until = self.store.add(_LEFT, 1), time.monotonic() + _GRACE
            while self.first and left < self.size and time.monotonic() < until:
                time.sleep(0.01)
                left = self.store.add(_LEFT, 0)
        except RuntimeError:
            return


ALONE: World = World()


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, world: World) -> Tensor:
        ctx.world = world
        return world.add_up(values.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # Differentiable once more: a gradient penalty goes through it.
        return summed(grad, ctx.world), None


def summed(values: Tensor, world: World) -> Tensor:
    """The sum over all processes, through which gradients pass, also a gradient's gradients: every process's loss
    depends on every process's values."""
    out: Tensor = _Summed.apply(values, world) if world.size > 1 else values  # type: ignore[no-untyped-call]
    return out


@torch.no_grad()
def gathered(values: Tensor, world: World) -> Tensor:
    """The rows of all processes, in their order; each may have as many as it likes. No gradient passes."""
    if world.size == 1:
        return values.detach()
    counts = torch.zeros(world.size, dtype=torch.int64, device=values.device)
    counts[world.rank] = len(values)
    each = world.add_up(counts).tolist()
    first = sum(each[: world.rank])
    rows = values.new_zeros(sum(each), *values.shape[1:])
    rows[first : first + len(values)] = values
    return world.add_up(rows)


@lru_cache(maxsize=1)
def join() -> World:
    """The processes that torchrun started, this one among them; :data:`ALONE` without torchrun.

    A process of torchrun computes on the GPU of its local number, one that is alone on the first, where there are GPUs,
    else on the CPU.

    Raises:
        UserError: the environment is only half of torchrun's, or there are fewer GPUs than processes.
    """
    size = _number("WORLD_SIZE", "1")
    if size == 1:
        return World(device=_device(alone=True))
    within("WORLD_SIZE", size, 1)
    missing = [name for name in _TOLD if name not in os.environ]
    if missing:
        raise UserError(f"WORLD_SIZE is {size}, but {missing[0]} is not set; start processes with torchrun")
    within("RANK", _number("RANK"), 0, size - 1)
    within("MASTER_PORT", _number("MASTER_PORT"), 1, 65535)
    device = _device(alone=False)
    if not dist.is_initialized():
        dist.init_process_group("gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl", timeout=_TIMEOUT)
    store: Store = dist.distributed_c10d._get_default_store()
    watch(store)
    return World(dist.get_rank(), dist.get_world_size(), device, store)


def _number(name: str, otherwise: str = "") -> int:
    """What the environment tells."""
    told = os.environ.get(name, otherwise)
    try:
        return int(told)
    except ValueError:
        raise UserError(f"{name} is '{told}', which is no whole number; start processes with torchrun") from None


def _device(*, alone: bool) -> torch.device:
    if not torch.cuda.is_available() or not (alone or "LOCAL_RANK" in os.environ):
        return torch.device("cpu")
    number, there = _number("LOCAL_RANK", "0"), torch.cuda.device_count()
    if number >= there:
        raise UserError(f"there are more processes than GPUs on this machine; start at most {there}: --nproc-per-node")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def watch(store: Store) -> None:
    """End this process soon after another has failed, whatever it waits for: nccl may wait for ever."""
    leaving = threading.Event()
    watcher = threading.Thread(target=_end_with_the_others, args=(store, leaving), daemon=True)
    watcher.start()

    # A thread that comes back from the store's C++ while the interpreter goes down takes the whole process with it
    # (std::terminate, exit status 134), a good run's too.
    @atexit.register
    def _() -> None:
        leaving.set()
        watcher.join(_GRACE)


def _end_with_the_others(store: Store, leaving: threading.Event) -> None:
    try:
        while not store.check([_FAILED]):
            if leaving.wait(5 * _NAP):
                return
    except RuntimeError:  # the store has ended first, as it does at the end of every run
        return
    if not leaving.wait(_GRACE):
        os._exit(2)


class Reducer:
    """Adds up the gradients of a fixed list of parameters over all processes, in one flat buffer.

    A missing gradient counts as zero if any process has one, and stays missing if none has, so that an optimiser skips
    the same parameters as it would in a single process.
    """

    def __init__(self, world: World, parameters: Sequence[Tensor]) -> None:
        self.world, self.parameters = world, list(parameters)
        self._flat: Tensor | None = None

    def __call__(self, told: Tensor) -> Tensor:
        """Replace all gradients by their sums. ``told`` (K,) travels along; returned is its sum."""
        parameters = self.parameters
        if not parameters:
            return self.world.add_up(told)
        sizes = [p.numel() for p in parameters]
        total, count = sum(sizes), len(parameters)
        if self._flat is None or len(self._flat) != total + count + len(told):
            self._flat = parameters[0].new_empty(total + count + len(told))
        flat = self._flat
        here = [p.grad is not None for p in parameters]
        flat[total : total + count] = 1
        for i, there in enumerate(here):
            if not there:
                flat[total + i] = 0
        flat[total + count :] = told
        views = []
        for p, size, begin in zip(parameters, sizes, itertools.accumulate(sizes, initial=0), strict=False):
            view = flat.as_strided(p.shape, _strides(p), begin)
            if p.grad is None:
                flat[begin : begin + size].zero_()
            else:
                view.copy_(p.grad)
            views.append(view)
        self.world.add_up(flat)
        # Reading the sums waits for the device; where nothing is missing here, there is nothing to read.
        anywhere = here if all(here) else (flat[total : total + count] > 0).tolist()
        for p, view, there in zip(parameters, views, anywhere, strict=True):
            p.grad = view if there else None
        return flat[total + count :].clone()


def _strides(parameter: Tensor) -> tuple[int, ...]:
    """As a dense copy of it lies in memory: optimisers want gradients laid out like their weights."""
    return torch.empty_like(parameter, device="meta").stride()
