"""The kernel distance: squared maximum mean discrepancy under a cubic kernel (Bińkowski et al. 2018, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.metrics.choice import choose


@dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation over subsets, and how many of what size there were."""

    mean: float
    std: float
    subsets: int
    size: int


def mmd(a: Tensor, b: Tensor) -> float:
    """Unbiased squared MMD of features (N, D) and (M, D) under (x·y / D + 1)³, in float64; may be below zero."""
    a, b = a.to(torch.float64), b.to(torch.float64)
    within = _off_diagonal_mean(_kernel(a, a)) + _off_diagonal_mean(_kernel(b, b))
    return float(within - 2 * _kernel(a, b).mean())


def kernel_distance(a: Tensor, b: Tensor, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> KernelDistance:
    """KID of features (N, D) and (M, D): :func:`mmd` over ``subsets`` keyed draws of ``size`` from each.

    ``size`` is lowered to the smaller set. Where it takes all of both sets, one subset is all there is.
    """
    size = min(size, len(a), len(b))
    if size < 2:
        raise ValueError("the kernel distance needs two samples of each")
    if size == len(a) == len(b):
        return KernelDistance(mmd(a, b), 0.0, 1, size)
    values = []
    for subset in range(subsets):
        left = choose(len(a), size, seed, "kid/a", subset)
        right = choose(len(b), size, seed, "kid/b", subset)
        values.append(mmd(a[left], b[right]))
    drawn = torch.tensor(values, dtype=torch.float64)
    return KernelDistance(float(drawn.mean()), float(drawn.std(correction=0)), subsets, size)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T).div_(a.shape[1]).add_(1.0).pow_(3)


def _off_diagonal_mean(square: Tensor) -> Tensor:
    n = len(square)
    return (square.sum() - square.diagonal().sum()) / (n * (n - 1))
