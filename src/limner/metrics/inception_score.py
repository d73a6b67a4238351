"""The Inception Score: exp E KL(p(y|x) || p(y)), the mean over splits (Salimans et al. 2016, section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

SPLITS = 10


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation over splits, as published.

    Attributes:
        mean, std: the score, 1 to the number of classes, and how it differs between splits.
        splits: how many there were.
        terms: (N,) float64, what each sample adds to the mean: their mean is the score, and their spread its own.
    """

    mean: float
    std: float
    splits: int
    terms: Tensor = field(repr=False, compare=False)


def inception_score(logits: Tensor, splits: int = SPLITS) -> InceptionScore:
    """Of class scores (N, K) before the softmax, N >= splits, in float64.

    Consecutive samples are a split, so shuffle what comes sorted. A split's score grows with its size: compare scores
    of equal counts alone.
    """
    count = len(logits)
    if not 1 <= splits <= count:
        raise ValueError(f"{count} samples cannot be split into {splits}")
    scores, terms = [], []
    for i in range(splits):
        known = logits[i * count // splits : (i + 1) * count // splits].double().log_softmax(dim=1)
        # The marginal as a logarithm: a class that nothing is taken for has no logarithm of zero.
        marginal = known.logsumexp(dim=0) - torch.tensor(float(len(known)), dtype=torch.float64).log()
        apart = (known.exp() * (known - marginal)).sum(dim=1)
        score = apart.mean().exp()
        scores.append(score)
        # To first order: exp's slope is the score, and the marginal's own change adds nothing but a constant.
        terms.append(score * (apart - apart.mean()))
    each = torch.stack(scores)
    return InceptionScore(float(each.mean()), float(each.std(correction=0)), splits, torch.cat(terms) + each.mean())
