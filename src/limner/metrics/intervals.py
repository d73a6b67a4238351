"""How sure a score is: 95 % intervals. They say how a score varies with the samples; the reference is held fixed.

Three ways, by what a measure is:

* a share of independent samples: Wilson's interval;
* a mean over samples, or nearly one (KID, density, the Inception Score): a keyed *bootstrap* of its terms;
* what depends on the samples all together (the Fréchet distance, recall, coverage): a *jackknife* over keyed groups of
  samples. A bootstrap draws samples twice, and these measures take a doubled sample for a fault: the Fréchet distance
  rises by about its bias once more, coverage falls. A jackknife leaves out and never doubles. It is the spread of its
  values that makes the interval, which stands about the score as it is, bias included: it is to be compared with scores
  of the same number of samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from limner.metrics.choice import resampled
from limner.metrics.frechet import Moments, merged

_Z = 1.959964
#: Groups of a jackknife, and Student's t at 97.5 % for one less.
GROUPS = 10
_T9 = 2.262157
#: Bootstrap draws, and how many indices are made at once.
DRAWS = 1_000
_AT_ONCE = 2**21

Interval = tuple[float, float]


def wilson(share: float, count: float, z: float = _Z) -> Interval:
    """Of a share of ``count`` independent samples (Wilson 1927)."""
    z2 = z * z / count
    centre = (share + z2 / 2) / (1 + z2)
    half = z / (1 + z2) * math.sqrt(share * (1 - share) / count + z2 / (4 * count))
    # The ends of a share of none, and of all, are exact, which sums of rounded numbers are not.
    return (max(0.0, centre - half) if share > 0 else 0.0), (min(1.0, centre + half) if share < 1 else 1.0)


def bootstrap(terms: Tensor, value: float, *, seed: int, stream: str, draws: int = DRAWS) -> Interval:
    """Of ``value``, whose spread is that of the mean of independent terms (N,): percentiles of ``draws`` keyed
    resamplings, moved so that they stand about the value (Efron and Tibshirani 1993, chapter 13)."""
    x = terms.to(torch.float64)
    x = x - x.mean()
    chunk = max(1, _AT_ONCE // len(x))
    means = [
        x[resampled(len(x), min(chunk, draws - first), seed, f"bootstrap/{stream}", first)].mean(dim=1)
        for first in range(0, draws, chunk)
    ]
    low, high = torch.cat(means).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return value + low, value + high


def jackknife_variance(left_out: Tensor) -> float:
    """The variance of a statistic from its values (G,) without each group in turn (Shao and Tu 1995, section 2.3)."""
    count = len(left_out)
    return (count - 1) / count * float((left_out - left_out.mean()).square().sum())


def jackknife(groups: Sequence[Moments], statistic: Callable[[Moments], float], value: float) -> Interval:
    """Of a statistic of moments that cannot fall below zero: each of ten groups of samples is left out in turn."""
    if len(groups) != GROUPS:
        raise ValueError(f"the interval is made from {GROUPS} groups, not {len(groups)}")
    left_out = [statistic(merged([g for j, g in enumerate(groups) if j != i])) for i in range(GROUPS)]
    half = _T9 * math.sqrt(jackknife_variance(torch.tensor(left_out, dtype=torch.float64)))
    return max(0.0, value - half), value + half


def share_of_groups(share: float, left_out: Tensor, count: int) -> Interval:
    """Of a share that depends on the samples all together, ``left_out`` (G,) being its values without each group.

    Wilson's interval for as many independent samples as would spread as widely (Kish's effective count), so that it
    stays within 0 and 1; ``count`` of them where nothing spreads.
    """
    variance = jackknife_variance(left_out)
    effective = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else count
    return wilson(share, effective, _T9)
