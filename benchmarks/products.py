"""The matrix products and convolutions of some work, recorded and then run alone: the most that its speed could be."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: What counts as arithmetic that no implementation can do without.
_NAMES = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward", "_scaled_dot_product")


@dataclass(frozen=True)
class Shape:
    """A tensor without its values."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @staticmethod
    def of(tensor: Tensor) -> Shape:
        return Shape(tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)

    def filled(self) -> Tensor:
        # What lies behind it, for an expanded tensor has several names for one number.
        extent = 1 + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        memory = torch.zeros(max(0, extent), dtype=self.dtype)
        behind = memory.normal_() if self.dtype.is_floating_point else memory
        return behind.as_strided(self.size, self.stride)


def _frozen(value: Any) -> Any:
    """Hashable: tensors as shapes, lists as tuples."""
    if isinstance(value, Tensor):
        return Shape.of(value)
    return tuple(_frozen(one) for one in value) if isinstance(value, list | tuple) else value


def _thawed(value: Any) -> Any:
    if isinstance(value, Shape):
        return value.filled()
    return [_thawed(one) for one in value] if isinstance(value, tuple) else value


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the calls of arithmetic operations by operation and shapes, forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[tuple[Any, tuple[Any, ...], tuple[tuple[str, Any], ...]]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if any(name == known or (known.startswith("_") and name.startswith(known)) for known in _NAMES):
            named = tuple(sorted((key, _frozen(value)) for key, value in (kwargs or {}).items()))
            self.calls[func, tuple(_frozen(value) for value in args), named] += 1
        return func(*args, **(kwargs or {}))


def seconds_alone(work: Callable[[], object], rounds: int = 3) -> float:
    """How long the products and convolutions of ``work`` take by themselves, operands ready, the least of a few."""
    with Recorder() as recorder:
        work()
    ready = [
        (func, [_thawed(value) for value in args], {key: _thawed(value) for key, value in named}, times)
        for (func, args, named), times in recorder.calls.items()
    ]
    best = float("inf")
    with torch.no_grad():
        for _ in range(rounds + 1):  # the first one warms up
            begun = time.perf_counter()
            for func, args, named, times in ready:
                for _ in range(times):
                    func(*args, **named)
            best = min(best, time.perf_counter() - begun)
    return best


def flops(work: Callable[[], object]) -> float:
    """Of the same operations, as torch counts them, backward passes included."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
