"""Euclidean distances between many features, in blocks, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

#: Entries of one block of distances: 128 MiB in float64.
BLOCK = 2**24


@dataclass(frozen=True, eq=False)
class Points:
    """Features (N, D) with their squared lengths, centred on ``origin`` (D,) to lose fewer digits."""

    x: Tensor
    squared: Tensor
    origin: Tensor

    @staticmethod
    def of(features: Tensor, origin: Tensor | None = None, dtype: torch.dtype = torch.float64) -> Points:
        """float64 decides ties as an exact computation would; float32 takes half the memory and time."""
        centre = features.mean(dim=0, dtype=torch.float64).to(dtype) if origin is None else origin
        x = features.to(dtype) - centre
        return Points(x, x.square().sum(dim=1), centre)

    def part(self, which: Tensor) -> Points:
        """Those of a mask or of indices, about the same origin."""
        return Points(self.x[which], self.squared[which], self.origin)

    def __len__(self) -> int:
        return len(self.x)


def squared_blocks(a: Points, b: Points, block: int = BLOCK) -> Iterator[tuple[int, Tensor]]:
    """Squared distances from a few rows of ``a`` at a time to all of ``b``: (first row, (rows, len(b)))."""
    rows = max(1, block // max(1, len(b)))
    transposed = b.x.T
    rounding = 500 * torch.finfo(b.x.dtype).eps
    for start in range(0, len(a), rows):
        part = slice(start, start + rows)
        scale = a.squared[part, None] + b.squared
        out = torch.addmm(scale, a.x[part], transposed, alpha=-2.0)
        # What rounding leaves of equal points is zero: ties and exact copies must read as such.
        yield start, out.masked_fill_(out < scale.mul_(rounding), 0.0)


def nearest(
    queries: Points, points: Points, k: int, *, skip_self: bool = False, block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    """Distances and indices (N, k) of the k nearest points of each query, nearest first.

    ``skip_self``: queries and points are one set, and a point is not its own neighbour.
    """
    distances, indices = [], []
    for start, squared in squared_blocks(queries, points, block):
        if skip_self:
            rows = torch.arange(len(squared))
            squared[rows, start + rows] = torch.inf
        found = squared.topk(k, dim=1, largest=False)
        distances.append(found.values.sqrt_())
        indices.append(found.indices)
    return torch.cat(distances), torch.cat(indices)
