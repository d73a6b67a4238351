"""Distributions of values that have a number of levels between -1 and 1: ln p of each value, in nats."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def logistic(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Of a logistic distribution, the share that falls to the level of x, the first and the last of which take all that
    lies beyond (Salimans et al. 2017, *PixelCNN++*, equation 2).

    Args:
        x: values at their levels, in [-1, 1].
        mean, log_scale: broadcast over x.
        levels: how many there are.
    """
    half, inverse = 1 / (levels - 1), torch.exp(-log_scale)
    above, below = (x - mean + half) * inverse, (x - mean - half) * inverse
    # ln (sigmoid(above) - sigmoid(below)) without the difference of two numbers that are nearly the same.
    width = 2 * half * inverse
    inside = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-width))
    first, last = x < -1 + half, x > 1 - half
    return torch.where(first, F.logsigmoid(above), torch.where(last, F.logsigmoid(-below), inside))


def normal(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Of a normal density, spread over a level: of values x that lie anywhere within theirs, the mean of it is at most
    ln p of the level (Theis et al. 2016, section 3.1)."""
    width = 2 / (levels - 1)
    square = ((x - mean) * torch.exp(-log_scale)).square()
    return -0.5 * square - log_scale - 0.5 * math.log(2 * math.pi) + math.log(width)
