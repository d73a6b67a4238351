"""How sure a score is: 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from limner.metrics.frechet import Moments, merged

_Z = 1.959964
#: Student's t at 97.5 % for 9 degrees of freedom: ten blocks.
_T9 = 2.262157
BLOCKS = 10

Interval = tuple[float, float]


def wilson(share: float, count: int) -> Interval:
    """Of a share of ``count`` independent samples (Wilson 1927)."""
    z2 = _Z * _Z / count
    centre = (share + z2 / 2) / (1 + z2)
    half = _Z / (1 + z2) * math.sqrt(share * (1 - share) / count + z2 / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: Tensor) -> Interval:
    """Of the mean of independent values (N,), by the normal law; N >= 2."""
    doubles = values.double()
    mean, half = float(doubles.mean()), _Z * float(doubles.std()) / math.sqrt(len(values))
    return mean - half, mean + half


def jackknife(blocks: Sequence[Moments], statistic: Callable[[Moments], float], value: float) -> Interval:
    """Of a statistic of moments: each of ten blocks of samples is left out in turn (Shao and Tu 1995, section 2.3)."""
    if len(blocks) != BLOCKS:
        raise ValueError(f"the interval is made from {BLOCKS} blocks, not {len(blocks)}")
    left_out = [statistic(merged([b for j, b in enumerate(blocks) if j != i])) for i in range(BLOCKS)]
    mean = sum(left_out) / BLOCKS
    variance = (BLOCKS - 1) / BLOCKS * sum((v - mean) ** 2 for v in left_out)
    half = _T9 * math.sqrt(variance)
    return max(0.0, value - half), value + half
