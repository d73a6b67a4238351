"""Maps of several sizes, from coarse to fine, of which each is what the ones before it leave of the finest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


def scaled(sides: Sequence[int], size: Size) -> tuple[Size, ...]:
    """(height, width) of maps whose longer sides have so many places, shaped nearly as the finest of this size."""
    longer = max(size)
    return tuple((max(1, round(side * size[0] / longer)), max(1, round(side * size[1] / longer))) for side in sides)


def brought_down(x: Tensor, size: Size) -> Tensor:
    """Means (N, c, h, w) of that size of maps (N, c, H, W)."""
    return x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size)


def brought_up(x: Tensor, size: Size) -> Tensor:
    """Maps (N, c, H, W) of that size of coarser ones."""
    return x if x.shape[2:] == size else F.interpolate(x, size, mode="bicubic", align_corners=False)


def mixing(scales: Sequence[Size]) -> Tensor:
    """By which what stands at the places of all scales (T, ...) becomes what each place is told, (T, T): the sum of all
    scales before its own, each brought up to the finest, brought down to its own."""
    counts = [height * width for height, width in scales]
    total, finest = sum(counts), scales[-1]
    out = torch.zeros(total, total)
    for place, count, size in zip(accumulate(counts, initial=0), counts, scales, strict=False):
        up = brought_up(torch.eye(count).reshape(count, 1, *size), finest)
        for row, below, other in zip(accumulate(counts, initial=0), counts, scales, strict=False):
            if row > place:
                out[row : row + below, place : place + count] = brought_down(up, other).flatten(1).t()
    return out
