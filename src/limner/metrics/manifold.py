"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) of generated features.

All four take the same number of neighbours, 5, as the reference code of the latter paper does by default (the former
paper used 3). A set's manifold is the union of open balls about its points that reach to their k-th neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.metrics.distances import BLOCK, Points, nearest, squared_blocks

NEIGHBOURS = 5


@dataclass(frozen=True, eq=False)
class Manifold:
    """Points with the squared distance of each to its k-th neighbour, (N,)."""

    points: Points
    radii: Tensor
    k: int

    @staticmethod
    def of(features: Tensor, k: int = NEIGHBOURS, *, origin: Tensor | None = None, block: int = BLOCK) -> Manifold:
        """Of features (N, D), N > k. Sets to be compared share an ``origin`` (D,)."""
        if len(features) <= k:
            raise ValueError(f"{len(features)} samples have no {k} neighbours each")
        points = Points.of(features, origin)
        distances, _ = nearest(points, points, k, skip_self=True, block=block)
        return Manifold(points, distances[:, -1].square(), k)


@dataclass(frozen=True, eq=False)
class Overlap:
    """Precision, density: how generated pictures lie among real ones. Recall, coverage: the other way round.

    The per-sample terms, whose means they are, give the intervals: ``inside`` (N fake) counts the real balls that
    hold a generated picture, ``reached`` (N real) says whether a real picture lies in a generated ball, ``covered``
    (N real) whether a generated picture lies in a real ball.
    """

    inside: Tensor
    reached: Tensor
    covered: Tensor
    k: int

    @property
    def precision(self) -> float:
        return float((self.inside > 0).double().mean())

    @property
    def recall(self) -> float:
        return float(self.reached.double().mean())

    @property
    def density(self) -> float:
        return float(self.inside.double().mean()) / self.k

    @property
    def coverage(self) -> float:
        return float(self.covered.double().mean())


def overlap(real: Manifold, fake: Manifold, *, block: int = BLOCK) -> Overlap:
    """How two manifolds overlap, in one pass over their distances, a block at a time."""
    if real.k != fake.k:
        raise ValueError(f"manifolds of {real.k} and {fake.k} neighbours cannot be compared")
    inside = torch.zeros(len(fake.points), dtype=torch.int64)
    reached = torch.zeros(len(real.points), dtype=torch.bool)
    covered = torch.zeros(len(real.points), dtype=torch.bool)
    for start, squared in squared_blocks(real.points, fake.points, block):
        rows = slice(start, start + len(squared))
        held = squared < real.radii[rows, None]
        inside += held.sum(dim=0)
        covered[rows] = held.any(dim=1)
        reached[rows] = (squared < fake.radii).any(dim=1)
    return Overlap(inside, reached, covered, real.k)
