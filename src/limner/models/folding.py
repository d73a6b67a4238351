"""Pictures as small maps of many channels: networks of larger maps would spend most of their time on those."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.contracts import ImageSpec
from limner.models.layers import padded

#: Largest fold of pictures into channels, also where that leaves long sides.
LARGEST_FOLD = 64
#: Shortest longer side that a fold leaves.
_SHORTEST = 12
#: Longest side of the smallest maps that a stack of halvings ends with.
SMALLEST = 7
#: Up to this fold maps are plain pixels, by which digits are learned in fewer steps; beyond it generators that are
#: judged by pixels reach half as much of a set, and less (docs/report-card.md).
_PLAIN = 2
#: Differences are so many times as large as in pictures, which makes them about as large as means are: photographs hold
#: as much of coarse ones as of fine ones.
_DIFFERENCES = 6.0


def folded(x: Tensor, side: int) -> Tensor:
    """Pictures (N, C, H, W) as maps of C side² channels and 1 / side the size, edges repeated to a multiple of it.

    From a side of 4 on they are, of each place, the mean and Haar's differences of means from coarse to fine, brought
    to size (as Gal et al. 2021, *SWAGAN*, have wavelets in critics). Of plain pixels a critic sees little but their
    mean.

    Args:
        x: the pictures.
        side: a power of two.
    """
    x = padded(x, side)
    if side == 1:
        return x
    if side <= _PLAIN:
        return F.pixel_unshuffle(x, side)
    return F.conv2d(x, _kernel(x, side), stride=side, groups=x.shape[1])


def fitted_fold(size: tuple[int, int]) -> int:
    """The p for which pictures of (height, width) are, p x p pixels folded into channels, 12 to 23 on the longer side
    (with a fold of at most 64): on a small machine most of the time goes into the largest maps."""
    fold: int = 2 ** max(0, math.floor(math.log2(max(size) / _SHORTEST)))
    return min(LARGEST_FOLD, fold)


def folding(size: tuple[int, int], side: int) -> int:
    """``side``, fitted to pictures of this (height, width) where it is 0, or 1 where pictures so small would leave maps
    that cannot be halved."""
    side = side or fitted_fold(size)
    return side if -(-max(size) // side) > SMALLEST else 1


def folded_spec(spec: ImageSpec, side: int) -> ImageSpec:
    """What :func:`folded` makes of such pictures."""
    height, width = (-(-length // side) for length in spec.size)
    return replace(spec, channels=spec.channels * side**2, size=(height, width))


@lru_cache
def _haar(side: int) -> Tensor:
    """(side², side, side): by which the pixels of a place are weighed for its mean, and for each difference."""
    if side == 1:
        return torch.ones(1, 1, 1, dtype=torch.float64)
    of_four = torch.tensor([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]]).double() / 4
    coarse = [torch.kron(row, of_four[0]) for row in _haar(side // 2)]
    places = torch.eye(side**2 // 4, dtype=torch.float64).reshape(-1, side // 2, side // 2)
    return torch.stack([*coarse, *(torch.kron(place, signs) for place in places for signs in of_four[1:])])


def _kernel(x: Tensor, side: int) -> Tensor:
    """(C side², 1, side, side), for pictures x (N, C, H, W)."""
    rows = _haar(side)
    size = torch.full((side**2, 1, 1), _DIFFERENCES, dtype=torch.float64)
    size[0] = 1.0
    return (rows * size)[:, None].to(x.device, x.dtype).repeat(x.shape[1], 1, 1, 1)
