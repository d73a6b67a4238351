"""Choices: which samples a measure looks at, and of which classes. Functions of the seed, never of global state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from limner.random import bits


def choose(count: int, size: int, seed: int, stream: str, draw: int = 0) -> Tensor:
    """``size`` different indices below ``count``, in ascending order; all of them if ``size`` is at least ``count``."""
    if size >= count:
        return torch.arange(count)
    return shuffled(count, seed, stream, draw)[:size].sort().values


def shuffled(count: int, seed: int, stream: str, draw: int = 0) -> Tensor:
    """The indices below ``count`` in a keyed order."""
    words = bits(seed, torch.arange(count), f"metrics/{stream}", draw, count=2)
    # 62 of 64 bits: ties are as good as impossible, and a stable sort settles them.
    keys = (words[:, 0] << 30) ^ (words[:, 1] & (2**30 - 1))
    return keys.argsort(stable=True)


def partition(count: int, groups: int, seed: int, stream: str) -> Tensor:
    """(N,) the group, below ``groups``, of each of ``count`` items: groups of one size, give or take one, by lot.

    By lot, because samples often come sorted by class, or with the classes in turn: every tenth would be one class.
    """
    return shuffled(count, seed, stream).argsort() % groups


def resampled(count: int, draws: int, seed: int, stream: str, first: int = 0) -> Tensor:
    """(draws, count) indices below ``count``, drawn with replacement: draw i is the same however many are drawn."""
    words = bits(seed, torch.arange(first, first + draws), f"metrics/{stream}", count=count)
    return (words * count) >> 32  # 32-bit words: the product stays below 2**63


def in_proportion(weights: Sequence[int], n: int) -> list[int]:
    """(n,) numbers below ``len(weights)``, each about as often as its weight says, at any time: every next one is what
    lacks most, so that equal weights are taken in turn. Fewer than there are weights are spread evenly over them."""
    held = np.asarray(weights, np.int64)
    total = int(held.sum())
    if n < len(held):
        middles = (2 * np.arange(n) + 1) * total
        return [int(k) for k in np.searchsorted(2 * n * held.cumsum(), middles, side="right")]
    lacking, out = np.zeros_like(held), []
    for _ in range(n):
        lacking += held
        out.append(int(lacking.argmax()))
        lacking[out[-1]] -= total
    return out
