"""What a solver is: how samples move from one level of noise to the next.

A step goes by the noise that the predicted picture implies, eps = (x - alpha x0) / sigma, to
alpha' x0 + sigma' eps, and so never divides by alpha: a start at alpha = 0 (flow's t = 1, zero terminal SNR) is exact.
Levels are per sample, so one batch may hold samples at different steps.

``init(x)`` gives the memory that ``step`` hands on, tensors of one row a sample, () where a solver keeps none.
``noise(name)`` draws fresh standard noise shaped like x for solvers that add some, as a pure function of the samples
and their steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from limner.contracts import Condition, Level, Prediction

Noise = Callable[[str], Tensor]
Memory = tuple[Tensor, ...]
Denoise = Callable[[Tensor, Level, Condition], Prediction]
"""A denoiser, or a function from one to one (guidance)."""


class Solver(Protocol):
    """By default of one evaluation a step and without a memory."""

    def evaluations(self, steps: int) -> int:
        """How often a whole trajectory evaluates the denoiser."""
        return steps

    def init(self, x: Tensor) -> Memory:
        return ()

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]: ...
