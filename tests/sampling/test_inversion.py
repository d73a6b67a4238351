"""Inversion on a Gaussian, whose flow keeps every point's quantile."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner import random
from limner.contracts import Condition, Level, Prediction
from limner.errors import UserError
from limner.sampling import DiscreteTimes, EDMTimes, Euler, FlowTimes, invert
from limner.sampling.discretization import Discretization

MEAN, STD = 0.7, 0.4
SHAPE = (1, 4, 4)


def denoise(x: Tensor, at: Level, cond: Condition) -> Prediction:
    alpha, sigma = at.like(x)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return Prediction(MEAN + gain * (x - alpha * MEAN))


def redrawn(x: Tensor, schedule: Level) -> Tensor:
    for i in range(len(schedule.alpha) - 1):
        at, to = (Level(schedule.alpha[j].expand(len(x)), schedule.sigma[j].expand(len(x))) for j in (i, i + 1))
        x, _ = Euler().step(denoise, x, at, to, Condition(), (), torch.zeros)
    return x


@pytest.mark.parametrize("times", [FlowTimes(), EDMTimes(sigma_min=0.02), DiscreteTimes()])
def test_a_picture_comes_back(times: Discretization) -> None:
    """Closer with more iterations."""
    schedule = times.levels(20)
    x = MEAN + STD * random.normal(0, torch.arange(8), "x", shape=SHAPE)
    errors = [
        float((redrawn(invert(denoise, x, schedule, Condition(), iterations=n), schedule) - x).abs().max())
        for n in (1, 4, 30)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-2


def test_one_step_from_noise_alone_is_refused() -> None:
    with pytest.raises(UserError, match="give 2 steps"):
        invert(denoise, torch.zeros(2, *SHAPE), FlowTimes().levels(1), Condition())
    assert bool(invert(denoise, torch.zeros(2, *SHAPE), FlowTimes().levels(2), Condition()).isfinite().all())


def test_the_noise_is_that_of_the_flow() -> None:
    """On the line of the flow the noise of a picture is its quantile, in the limit of many steps."""
    start = random.normal(0, torch.arange(8), "x", shape=SHAPE).double()
    found = invert(denoise, MEAN + STD * start, FlowTimes().levels(400), Condition(), iterations=20)
    assert float((found - start).abs().mean()) < 0.02
