"""The kernel distance: squared maximum mean discrepancy under a cubic kernel (Bińkowski et al. 2018, section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from limner.metrics.choice import choose


@dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation over subsets, and how many of what size there were.

    ``terms`` (N,) float64: what each sample of the first set that was drawn adds to the mean, to first order; their
    spread makes its interval.
    """

    mean: float
    std: float
    subsets: int
    size: int
    terms: Tensor = field(repr=False, compare=False)


def mmd(a: Tensor, b: Tensor) -> float:
    """Unbiased squared MMD of features (N, D) and (M, D) under (x·y / D + 1)³, in float64; may be below zero."""
    return _mmd(a.to(torch.float64), b.to(torch.float64))[0]


def _mmd(a: Tensor, b: Tensor) -> tuple[float, Tensor]:
    """The squared MMD, and twice what each row of ``a`` adds to it beyond the others: Hájek's projection."""
    within, across = _kernel(a, a), _kernel(a, b).mean(dim=1)
    rows = (within.sum(dim=1) - within.diagonal()) / (len(a) - 1)
    value = float(rows.mean() + _off_diagonal_mean(_kernel(b, b)) - 2 * across.mean())
    terms = 2 * (rows - across)
    return value, terms - terms.mean()


def kernel_distance(a: Tensor, b: Tensor, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> KernelDistance:
    """KID of features (N, D) and (M, D): :func:`mmd` over ``subsets`` keyed draws of ``size`` from each.

    ``size`` is lowered to the smaller set. Where it takes all of both sets, one subset is all there is.
    """
    size = min(size, len(a), len(b))
    if size < 2:
        raise ValueError("the kernel distance needs two samples of each")
    if size == len(a) == len(b):
        value, terms = _mmd(a.to(torch.float64), b.to(torch.float64))
        return KernelDistance(value, 0.0, 1, size, terms)
    values, sums, drawn = [], torch.zeros(len(a), dtype=torch.float64), torch.zeros(len(a), dtype=torch.float64)
    for subset in range(subsets):
        left = choose(len(a), size, seed, "kid/a", subset)
        right = choose(len(b), size, seed, "kid/b", subset)
        value, terms = _mmd(a[left].to(torch.float64), b[right].to(torch.float64))
        values.append(value)
        sums[left] += terms
        drawn[left] += 1
    each = torch.tensor(values, dtype=torch.float64)
    seen = drawn > 0
    return KernelDistance(float(each.mean()), float(each.std(correction=0)), subsets, size, sums[seen] / drawn[seen])


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T).div_(a.shape[1]).add_(1.0).pow_(3)


def _off_diagonal_mean(square: Tensor) -> Tensor:
    n = len(square)
    return (square.sum() - square.diagonal().sum()) / (n * (n - 1))
