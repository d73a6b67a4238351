"""Solvers that look at one step alone: Euler, Heun, DDIM, DDPM's ancestral sampling, and the jumps of a flow map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from limner.contracts import Condition, FlowMap, Level
from limner.errors import UserError
from limner.noise_schedules import posterior
from limner.sampling.solver import Denoise, Memory, Noise, Solver


@dataclass(frozen=True)
class DDIM(Solver):
    """Denoising diffusion implicit models (Song et al. 2020, equation 12), on any path of levels.

    ``eta`` is the share of fresh noise: 0 is deterministic and the same as :class:`Euler`, 1 is DDPM's ancestral step.
    """

    eta: float = 0.0

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        prediction = denoise(x, at, cond)
        eps = prediction.noise(x, at)
        alpha, sigma = to.like(x)
        if self.eta == 0:
            return alpha * prediction.x0 + sigma * eps, ()
        # sigma_up² = eta² sigma'² (1 - q²) with q = (sigma' / alpha') / (sigma / alpha), the ratio of noise to signal.
        now_alpha, now_sigma = at.like(x)
        q = (sigma * now_alpha) / (alpha * now_sigma).clamp_min(1e-12)
        up = self.eta * sigma * (1 - q.square()).clamp_min(0).sqrt()
        down = (sigma.square() - up.square()).clamp_min(0).sqrt()
        return alpha * prediction.x0 + down * eps + up * noise("ancestral"), ()


@dataclass(frozen=True)
class Euler(Solver):
    """Euler's method on the probability-flow ODE: one evaluation a step, first order."""

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        return DDIM().step(denoise, x, at, to, cond, memory, noise)


@dataclass(frozen=True)
class Heun(Solver):
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

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        if self.gamma > 0:
            x, at = self._churned(x, at, noise)
        first = denoise(x, at, cond)
        eps = first.noise(x, at)
        alpha, sigma = to.like(x)
        landed = alpha * first.x0 + sigma * eps
        again = (to.sigma > 0).nonzero().flatten()
        if not len(again):
            return landed, ()
        if len(again) == len(x):
            return self._corrected(denoise, x, landed, first.x0, eps, at, to, cond), ()
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
        return out, ()

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


@dataclass(frozen=True)
class DDPM(Solver):
    """Ancestral sampling (Ho et al. 2020, algorithm 2), on any path of levels whose end has alpha > 0.

    Attributes:
        variance: of the step, "small" (beta tilde) or "large" (beta), the bounds for data of one point and for white
            noise (section 3.2), where the model has not learned it.
    """

    variance: Literal["small", "large"] = "small"

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        prediction = denoise(x, at, cond)
        known = posterior(at, to)
        shape = (-1, *[1] * (x.ndim - 1))
        small, large = known.small.reshape(shape), known.large.reshape(shape)
        mean = known.x.reshape(shape) * x + known.x0.reshape(shape) * prediction.x0
        if prediction.variance is not None:
            # Nichol and Dhariwal 2021, equation 15, with the logarithms taken together.
            spread = small.clamp_min(1e-20) * (large / small.clamp_min(1e-20)) ** prediction.variance
        else:
            spread = small if self.variance == "small" else large
        last = to.sigma.reshape(shape) == 0
        return mean + torch.where(last, 0.0, spread.sqrt()) * noise("ancestral"), ()


@dataclass(frozen=True)
class Jump(Solver):
    """The steps that a flow map itself knows.

    With ``eta`` each jump goes further than its level, and as much fresh noise brings it back: gamma-sampling (Kim et
    al. 2023, *Consistency trajectory models*, algorithm 3). 1 jumps all the way to a picture every time (Song et al.
    2023, *Consistency models*, algorithm 1), so that a later jump can put right what an earlier one got wrong.
    """

    eta: float = 0.0

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        """Raises UserError where the model, or what guidance made of it, knows no jumps."""
        if not isinstance(denoise, FlowMap):
            raise UserError(
                "solver 'jump' is for models that know where a path ends, without guidance and clipping; "
                "train one with: limner train consistency"
            )
        if self.eta == 0:
            return denoise.jump(x, at, to, cond), ()
        down = to.sigma * math.sqrt(1 - self.eta**2)
        further = Level(to.alpha / (to.alpha + down), down / (to.alpha + down))  # on the line of rectified flow
        landed = denoise.jump(x, at, further, cond)
        fresh = (self.eta * to.sigma).reshape(-1, 1, 1, 1) * noise("jump")
        return landed * (to.alpha / further.alpha).reshape(-1, 1, 1, 1) + fresh, ()
