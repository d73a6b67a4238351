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
#: Neighbours beyond the k-th that are known of each point, for when some are left out. Of 20 neighbours fewer than 5
#: are left without a tenth of all points once in 10^12 times.
_SPARE = 15


@dataclass(frozen=True, eq=False)
class Manifold:
    """Points with the squared distance of each to its k-th neighbour, (N,).

    ``without`` (G, N): the same where the points of each group are left out; -1 for those points themselves.
    """

    points: Points
    radii: Tensor
    k: int
    groups: Tensor | None = None
    without: Tensor | None = None

    @staticmethod
    def of(
        features: Tensor,
        k: int = NEIGHBOURS,
        *,
        origin: Tensor | None = None,
        groups: Tensor | None = None,
        block: int = BLOCK,
    ) -> Manifold:
        """Of features (N, D), N > k. Sets to be compared share an ``origin`` (D,).

        ``groups`` (N,) names groups, from 0 on, that :func:`overlap` is to leave out in turn.
        """
        if len(features) <= k:
            raise ValueError(f"{len(features)} samples have no {k} neighbours each")
        points = Points.of(features, origin)
        many = k if groups is None else min(k + _SPARE, len(features) - 1)
        distances, indices = nearest(points, points, many, skip_self=True, block=block)
        squared = distances.square()
        without = None if groups is None else _radii_without(squared, groups, groups[indices], k)
        return Manifold(points, squared[:, k - 1], k, groups, without)


def _radii_without(squared: Tensor, groups: Tensor, neighbours: Tensor, k: int) -> Tensor:
    """(G, N) from squared distances to neighbours (N, many), nearest first, and the neighbours' groups."""
    out = []
    for group in range(int(groups.max()) + 1):
        rank = (neighbours != group).cumsum(dim=1)
        # The first neighbour with rank k; the farthest that is known where too few are left.
        at = (rank < k).sum(dim=1, keepdim=True).clamp_max(squared.shape[1] - 1)
        out.append(squared.gather(1, at)[:, 0].masked_fill(groups == group, -1.0))
    return torch.stack(out)


@dataclass(frozen=True, eq=False)
class Overlap:
    """Precision, density: how generated pictures lie among real ones. Recall, coverage: the other way round.

    The per-sample terms, whose means they are, give the intervals: ``inside`` (N fake) counts the real balls that
    hold a generated picture, ``reached`` (N real) says whether a real picture lies in a generated ball, ``covered``
    (N real) whether a generated picture lies in a real ball. ``recall_without`` and ``coverage_without`` (G,) are what
    recall and coverage are without each group of generated pictures, None if these have no groups.
    """

    inside: Tensor
    reached: Tensor
    covered: Tensor
    k: int
    recall_without: Tensor | None = None
    coverage_without: Tensor | None = None

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
    left_out = None if fake.groups is None or fake.without is None else _LeftOut(fake.groups, fake.without)
    for start, squared in squared_blocks(real.points, fake.points, block):
        rows = slice(start, start + len(squared))
        held = squared < real.radii[rows, None]
        inside += held.sum(dim=0)
        covered[rows] = held.any(dim=1)
        reaching = squared < fake.radii
        reached[rows] = reaching.any(dim=1)
        if left_out is not None:
            left_out.add(squared, reaching, held)
    if left_out is None:
        return Overlap(inside, reached, covered, real.k)
    return Overlap(inside, reached, covered, real.k, *(sums / len(real.points) for sums in left_out.sums))


class _LeftOut:
    """Counts the real pictures that are reached and covered without each group of generated ones."""

    def __init__(self, groups: Tensor, radii: Tensor) -> None:
        self._radii = radii
        self._member = torch.nn.functional.one_hot(groups, len(radii)).float()
        zero = torch.zeros(len(radii), dtype=torch.float64)
        self.sums = (zero, zero.clone())

    def add(self, squared: Tensor, reaching: Tensor, held: Tensor) -> None:
        """One block (rows, N fake) of squared distances, and which are within the fake, and within the real radius."""
        recall, coverage = self.sums
        reached = self._by_others(reaching)
        # Without a group the others' radii are larger: only who is not reached by the smaller ones is looked at again.
        for group, radii in enumerate(self._radii):
            missed = (~reached[:, group]).nonzero()[:, 0]
            reached[missed, group] = (squared[missed] < radii).any(dim=1)
        recall += reached.sum(dim=0)
        coverage += self._by_others(held).sum(dim=0)

    def _by_others(self, within: Tensor) -> Tensor:
        """(rows, G) whether a picture of any other group is within."""
        by_group = within.float() @ self._member  # whole numbers below 2**24: exact
        return by_group.sum(dim=1, keepdim=True) > by_group
