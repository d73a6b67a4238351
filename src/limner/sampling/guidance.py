"""Guidance: functions from denoiser to denoiser."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.contracts import Condition, Denoiser, Level, Prediction, RefineConfig
from limner.sampling.solver import Denoise


def _noisy_between(at: Level, lowest: float, highest: float) -> Tensor:
    """Which samples stand in the interval, by number."""
    time = at.sigma / (at.alpha + at.sigma)
    return ((time >= lowest) & (time <= highest)).nonzero().flatten()


def classifier_free(denoise: Denoise, weight: float, lowest: float = 0.0, highest: float = 1.0) -> Denoise:
    """uncond + weight (cond - uncond) (Ho and Salimans 2022), within an interval of levels (Kynkäänniemi et al. 2024).

    Args:
        denoise: trained with condition dropout.
        weight: 1 is off and returns ``denoise`` itself.
        lowest, highest: the interval of sigma / (alpha + sigma) in which guidance is on; outside it costs nothing.
    """
    if weight == 1:
        return denoise

    def guided(x: Tensor, at: Level, cond: Condition) -> Prediction:
        on = _noisy_between(at, lowest, highest)
        if not len(on):
            return denoise(x, at, cond)
        # One call for both halves: samples that need no guidance are not evaluated twice.
        some = cond.index(on)
        both = denoise(
            torch.cat([x, x[on]]),
            Level(torch.cat([at.alpha, at.alpha[on]]), torch.cat([at.sigma, at.sigma[on]])),
            Condition.cat([cond, some.dropped()]),
        )
        with_condition, without = both.x0[: len(x)], both.x0[len(x) :]
        out = with_condition.clone()
        out[on] = without + weight * (with_condition[on] - without)
        return Prediction(out, None if both.variance is None else both.variance[: len(x)])

    return guided


def autoguidance(denoise: Denoise, worse: Denoise, weight: float, lowest: float = 0.0, highest: float = 1.0) -> Denoise:
    """worse + weight (denoise - worse) (Karras et al. 2024, *Guiding a diffusion model with a bad version of itself*).

    Both see the condition, so it needs no labels, and what it takes away is what the worse model gets wrong, not what
    the classes differ in.

    Args:
        denoise: the model.
        worse: a smaller or less trained one of the same pictures.
        weight: 1 is off and returns ``denoise`` itself.
        lowest, highest: as for :func:`classifier_free`.
    """
    if weight == 1:
        return denoise

    def guided(x: Tensor, at: Level, cond: Condition) -> Prediction:
        good = denoise(x, at, cond)
        on = _noisy_between(at, lowest, highest)
        if not len(on):
            return good
        bad = worse(x[on], at.index(on), cond.index(on)).x0
        out = good.x0.clone()
        out[on] = bad + weight * (good.x0[on] - bad)
        return Prediction(out, good.variance)

    return guided


class Guided(Denoiser):
    """A denoiser with the guidance that its samples are drawn with, as one denoiser: a teacher."""

    def __init__(self, net: Denoiser, config: RefineConfig) -> None:
        super().__init__()
        self.net = net
        self._guidance = (config.guidance, config.guidance_from, config.guidance_to)

    def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
        return classifier_free(self.net, *self._guidance)(x, at, cond)


def clipped(denoise: Denoise) -> Denoise:
    """Keeps what the denoiser takes for the picture within [-1, 1], as Ho et al. 2020 do: near pure noise a network
    that says the noise guesses pictures many times too bright, of which the smallest error makes nonsense."""

    def kept(x: Tensor, at: Level, cond: Condition) -> Prediction:
        prediction = denoise(x, at, cond)
        return Prediction(prediction.x0.clamp(-1, 1), prediction.variance)

    return kept
