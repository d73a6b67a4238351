"""Solvers that look back: DPM-Solver++ (2M), its stochastic form, and UniPC. One evaluation a step, second order.

All are written in h, the rise of ln(alpha / sigma) in a step, and q = exp(-h), which is exact where a step begins at
alpha = 0 or ends at sigma = 0: there h is infinite, and the step is of first order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.contracts import Condition, Level
from limner.sampling.solver import Denoise, Memory, Noise, Solver


def _shrinkage(at: Level, to: Level) -> Tensor:
    """q, the ratio of noise to signal after the step to that before it, (N,)."""
    return to.sigma * at.alpha / (to.alpha * at.sigma)


def _rows(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (x.ndim - 1))


def _slope(x0: Tensor, before: Tensor, h: Tensor, h_last: Tensor) -> Tensor:
    """What x0 changes by in a step of h if it goes on as in the last one; 0 where one of the two steps is infinite."""
    known = h.isfinite() & h_last.isfinite()
    return _rows(torch.where(known, h / h_last, 0.0), x0) * (x0 - before)


@dataclass(frozen=True)
class DPMSolverPP2M(Solver):
    """DPM-Solver++ (2M) (Lu et al. 2022, *DPM-Solver++*, algorithm 2), and SDE-DPM-Solver++ (2M) (section 5).

    Attributes:
        eta: share of the reverse SDE's noise, 0 the ODE, 1 the SDE.

    Its memory: the last x0, and h of the last step.
    """

    eta: float = 0.0

    def init(self, x: Tensor) -> Memory:
        return torch.zeros_like(x), x.new_full((len(x),), torch.inf)

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        before, h_last = memory
        x0 = denoise(x, at, cond).x0
        q = _shrinkage(at, to)
        h = -q.log()
        ahead = x0 + _slope(x0, before, h, h_last) / 2
        kept, gained = to.sigma / at.sigma * q**self.eta, to.alpha * (1 - q ** (1 + self.eta))
        moved = _rows(kept, x) * x + _rows(gained, x) * ahead
        if self.eta > 0:
            fresh = to.sigma * (1 - q ** (2 * self.eta)).clamp_min(0).sqrt()
            moved = moved + _rows(fresh, x) * noise("sde")
        return moved, (x0, h)


@dataclass(frozen=True)
class UniPC(Solver):
    """UniPC-2 with B(h) = exp(h) - 1, on x0 (Zhao et al. 2023, *UniPC*, algorithms 5 and 6).

    A step first corrects the point it starts from, by what the denoiser says there, and then predicts the next one;
    the evaluation that corrects is the one that predicts.

    Its memory: the last step's start, corrected; the last two x0; sigma there; h of the last two steps; steps taken.
    """

    def init(self, x: Tensor) -> Memory:
        none = x.new_zeros(len(x))
        return x, torch.zeros_like(x), torch.zeros_like(x), none + 1, none + 1, none + 1, none.long()

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        x0 = denoise(x, at, cond).x0
        x = torch.where(_rows(memory[-1] > 0, x), self._corrected(x0, at, memory), x)
        _, last, _, _, h_last, _, taken = memory
        q = _shrinkage(at, to)
        h = -q.log()
        slope = _slope(x0, last, h, torch.where(taken > 0, h_last, torch.inf))
        moved = _rows(to.sigma / at.sigma, x) * x + _rows(to.alpha * (1 - q), x) * (x0 + slope / 2)
        return moved, (x, x0, last, at.sigma, h, h_last, taken + 1)

    @staticmethod
    def _corrected(x0: Tensor, at: Level, memory: Memory) -> Tensor:
        start, last, before, sigma, h, h_before, taken = memory
        gain = -torch.expm1(-h)
        # Equation 5 of the paper for two points, solved by hand: weights of the change now and of the change before.
        first = 1 / gain - 1 / h
        second = 1 / gain - 2 * first / h
        both = (taken > 1) & h.isfinite() & h_before.isfinite()
        back = torch.where(both, (first - second) / (1 + h_before / h), 0.0)
        now = torch.where(both, first - back, 0.5)
        slope = _rows(torch.where(both, h / h_before, 0.0), x0) * (last - before)
        mean = last + _rows(now, x0) * (x0 - last) + _rows(back, x0) * slope
        return _rows(at.sigma / sigma, x0) * start + _rows(at.alpha * gain, x0) * mean
