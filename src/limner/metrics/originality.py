"""Are samples new, or copies of training pictures?

A sample is a *near copy* if its nearest training picture is less than half as far as its 50 nearest are on average,
the criterion of Carlini et al. 2023 (*Extracting training data from diffusion models*, section 4.2, there as a mean
over the patches' largest distance). Distances are between pixels, of the picture and of its mirror image.

Pixels were chosen by measuring: planted copies with noise, blur, other brightness or a shift were found far more
often there than among features, and the mirror image finds flipped copies (``benchmarks/orientation.py``). Real
pictures pass for near copies too where a set is narrow or holds doubles, so a share is read beside a held-out set's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.metrics.distances import BLOCK, Points, nearest

NEIGHBOURS = 50
RATIO = 0.5
#: Nearest pictures that are kept of each sample.
_KEPT = 4


@dataclass(frozen=True, eq=False)
class Copies:
    """What is nearest to each sample.

    Attributes:
        neighbours: (N, few) int64, the nearest training pictures, nearest first.
        distances: (N, few), to them.
        ratio: (N,), the distance to the nearest over the mean distance to the 50 nearest.
        mirrored: (N,) bool, whether the sample's mirror image is what is near: the view whose ratio is smaller.
    """

    neighbours: Tensor
    distances: Tensor
    ratio: Tensor
    mirrored: Tensor

    @property
    def index(self) -> Tensor:
        """(N,) int64, the nearest training picture."""
        return self.neighbours[:, 0]

    @property
    def near(self) -> Tensor:
        """(N,) bool: is it a near copy?"""
        return self.ratio < RATIO

    @property
    def share(self) -> float:
        return float(self.near.double().mean())


def find_copies(samples: Tensor, mirrored: Tensor, training: Points, *, block: int = BLOCK) -> Copies:
    """The nearest training pictures of each sample.

    Args:
        samples: (N, D) pixels.
        mirrored: (N, D) pixels of the same samples, flipped left to right.
        training: the training pictures, at least 2; with fewer than 50 the mean is over all.
        block: entries of a block of distances.
    """
    k = min(NEIGHBOURS, len(training))
    if k < 2:
        raise ValueError("near copies are judged against two training pictures at least")
    looks = []
    for view in (samples, mirrored):
        distances, indices = nearest(Points.of(view, training.origin, training.x.dtype), training, k, block=block)
        # A set of doubles has all its distances at zero: that is a copy, not a division by zero.
        ratio = distances[:, 0] / distances.mean(dim=1).clamp_min(torch.finfo(distances.dtype).tiny)
        looks.append((indices[:, :_KEPT], distances[:, :_KEPT], ratio))
    straight, flipped = looks
    # Not the nearer view: a picture of a dense place may be nearer, and what it copies stands apart in the other.
    mirror = flipped[2] < straight[2]
    neighbours, distances = (torch.where(mirror[:, None], flipped[i], straight[i]) for i in range(2))
    return Copies(neighbours, distances, torch.where(mirror, flipped[2], straight[2]), mirror)
