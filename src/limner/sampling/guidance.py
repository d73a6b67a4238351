"""Guidance: functions from denoiser to denoiser."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.contracts import Condition, Level, Prediction
from limner.sampling.solvers import Denoise


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
        time = at.sigma / (at.alpha + at.sigma)
        on = ((time >= lowest) & (time <= highest)).nonzero().flatten()
        if not len(on):
            return denoise(x, at, cond)
        # One call for both halves: samples that need no guidance are not evaluated twice.
        some = cond.index(on)
        both = denoise(
            torch.cat([x, x[on]]),
            Level(torch.cat([at.alpha, at.alpha[on]]), torch.cat([at.sigma, at.sigma[on]])),
            Condition.cat([cond, some.dropped()]),
        ).x0
        with_condition, without = both[: len(x)], both[len(x) :]
        out = with_condition.clone()
        out[on] = without + weight * (with_condition[on] - without)
        return Prediction(out)

    return guided
