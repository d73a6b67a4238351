"""Keyed choices: which samples a measure looks at is a function of the seed, never of global state."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.random import bits


def choose(count: int, size: int, seed: int, stream: str, draw: int = 0) -> Tensor:
    """``size`` different indices below ``count``, in ascending order; all of them if ``size`` is at least ``count``."""
    if size >= count:
        return torch.arange(count)
    words = bits(seed, torch.arange(count), f"metrics/{stream}", draw, count=2)
    # 62 of 64 bits: ties are as good as impossible, and a stable sort settles them.
    keys = (words[:, 0] << 30) ^ (words[:, 1] & (2**30 - 1))
    return keys.argsort(stable=True)[:size].sort().values
