"""Solvers: how samples move from one level of noise to the next.

A step goes by the noise that the predicted picture implies, eps = (x - alpha x0) / sigma, to
alpha' x0 + sigma' eps, and so never divides by alpha: a start at alpha = 0 (flow's t = 1, zero terminal SNR) is exact.
Levels are per sample, so one batch may hold samples at different steps.

``init(x)`` gives the memory that ``step`` hands on (None where a solver keeps none). ``noise(name)`` draws fresh
standard noise shaped like x for solvers that add some, as a pure function of the samples and their steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from limner.contracts import Condition, Level, Prediction, SampleConfig

Noise = Callable[[str], Tensor]
Denoise = Callable[[Tensor, Level, Condition], Prediction]
"""A denoiser, or a function from one to one (guidance)."""


class Solver(Protocol):
    def evaluations(self, steps: int) -> int:
        """How often a whole trajectory evaluates the denoiser."""

    def init(self, x: Tensor) -> Tensor | None: ...

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Tensor | None, noise: Noise
    ) -> tuple[Tensor, Tensor | None]: ...


@dataclass(frozen=True)
class DDIM:
    """Denoising diffusion implicit models (Song et al. 2020, equation 12), on any path of levels.

    ``eta`` is the share of fresh noise: 0 is deterministic and the same as :class:`Euler`, 1 is DDPM's ancestral step.
    """

    eta: float = 0.0

    def evaluations(self, steps: int) -> int:
        return steps

    def init(self, x: Tensor) -> None:
        return None

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Tensor | None, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        prediction = denoise(x, at, cond)
        eps = prediction.noise(x, at)
        alpha, sigma = to.like(x)
        if self.eta == 0:
            return alpha * prediction.x0 + sigma * eps, None
        # sigma_up² = eta² sigma'² (1 - q²) with q = (sigma' / alpha') / (sigma / alpha), the ratio of noise to signal.
        now_alpha, now_sigma = at.like(x)
        q = (sigma * now_alpha) / (alpha * now_sigma).clamp_min(1e-12)
        up = self.eta * sigma * (1 - q.square()).clamp_min(0).sqrt()
        down = (sigma.square() - up.square()).clamp_min(0).sqrt()
        return alpha * prediction.x0 + down * eps + up * noise("ancestral"), None


@dataclass(frozen=True)
class Euler:
    """Euler's method on the probability-flow ODE: one evaluation a step, first order."""

    def evaluations(self, steps: int) -> int:
        return steps

    def init(self, x: Tensor) -> None:
        return None

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Tensor | None, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        return DDIM().step(denoise, x, at, to, cond, memory, noise)


@dataclass(frozen=True)
class Heun:
    """EDM's solver (Karras et al. 2022, algorithms 1 and 2): Heun's second-order step, with optional churn.

    Along any path dx = x0 dalpha + eps dsigma, so the trapezium rule over (alpha, sigma) averages x0 and eps at both
    ends. The last step, to sigma = 0, is Euler's.

    Attributes:
        gamma: by how much churn raises sigma before a step, min(S_churn / steps, sqrt(2) - 1); 0 is off.
        churn_from, churn_to: S_tmin and S_tmax, in units of sigma / alpha.
        churn_noise: S_noise.
    """

    gamma: float = 0.0
    churn_from: float = 0.0
    churn_to: float = math.inf
    churn_noise: float = 1.0

    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1

    def init(self, x: Tensor) -> None:
        return None

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Tensor | None, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        if self.gamma > 0:
            x, at = self._churned(x, at, noise)
        first = denoise(x, at, cond)
        eps = first.noise(x, at)
        alpha, sigma = to.like(x)
        landed = alpha * first.x0 + sigma * eps
        again = (to.sigma > 0).nonzero().flatten()
        if not len(again):
            return landed, None
        if len(again) == len(x):
            return self._corrected(denoise, x, landed, first.x0, eps, at, to, cond), None
        out = landed.clone()
        out[again] = self._corrected(
            denoise,
            x[again],
            landed[again],
            first.x0[again],
            eps[again],
            at.index(again),
            to.index(again),
            cond.index(again),
        )
        return out, None

    @staticmethod
    def _corrected(
        denoise: Denoise, x: Tensor, landed: Tensor, x0: Tensor, eps: Tensor, at: Level, to: Level, cond: Condition
    ) -> Tensor:
        second = denoise(landed, to, cond)
        (alpha, sigma), (next_alpha, next_sigma) = at.like(x), to.like(x)
        mean_x0 = (x0 + second.x0) / 2
        mean_eps = (eps + second.noise(landed, to)) / 2
        return x + (next_alpha - alpha) * mean_x0 + (next_sigma - sigma) * mean_eps

    def _churned(self, x: Tensor, at: Level, noise: Noise) -> tuple[Tensor, Level]:
        ratio = at.sigma / at.alpha  # infinite at alpha = 0, where there is only noise and nothing to churn
        inside = (ratio >= self.churn_from) & (ratio <= self.churn_to) & (at.alpha > 0)
        raised = torch.where(inside, at.sigma * (1 + self.gamma), at.sigma)
        extra = (raised.square() - at.sigma.square()).clamp_min(0).sqrt() * self.churn_noise
        level = Level(at.alpha, raised)
        return x + extra.reshape(-1, *[1] * (x.ndim - 1)) * noise("churn"), level


def _heun(config: SampleConfig) -> Solver:
    return Heun(gamma=min(config.churn / config.steps, math.sqrt(2) - 1))


SOLVERS: dict[str, Callable[[SampleConfig], Solver]] = {
    "euler": lambda config: Euler(),
    "heun": _heun,
    "ddim": lambda config: DDIM(config.eta),
}
