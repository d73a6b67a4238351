"""Mixed aspect ratios: a few sizes of about equal area, and batches that each hold one of them.

As NovelAI's *aspect ratio bucketing* (2022), but without state: which size a batch has, and which of its pictures, are
functions of (seed, images seen).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from limner.contracts import DataStats
from limner.data.dataset import Dataset
from limner.data.order import Rows, order, permutation

STRIDE = 8  # sides are multiples of it
_WIDEST = 4.0  # aspect ratio of the longest size

Size = tuple[int, int]


def candidates(area: int) -> list[Size]:
    """(height, width) of about so many pixels, from one to four times as wide as high, and as high as wide."""
    sizes = set()
    for side in range(STRIDE, int(math.sqrt(area * _WIDEST)) + STRIDE, STRIDE):
        other = max(STRIDE, round(area / side / STRIDE) * STRIDE)
        if max(side, other) <= _WIDEST * min(side, other):
            sizes |= {(side, other), (other, side)}
    return sorted(sizes, key=lambda size: (size[1] / size[0], size))


def choose(found: Counter[Size], area: int, most: int) -> list[Size]:
    """At most so many sizes that lie near to the shapes of the pictures: each next one is what helps most.

    Args:
        found: the pictures' own sizes, and how many have each.
        area: pixels of a size, about.
        most: how many sizes.
    """
    offered = candidates(area)
    weight = np.array(list(found.values()), np.float64)
    miss = _misses(list(found), offered)
    chosen: list[int] = []
    left = np.full(len(weight), np.inf)
    while len(chosen) < most:
        totals = np.minimum(left[:, None], miss).T @ weight if chosen else miss.T @ weight
        best = int(totals.argmin())
        if chosen and totals[best] >= (left @ weight) * (1 - 1e-9):
            break
        chosen.append(best)
        left = np.minimum(left, miss[:, best])
    return [offered[i] for i in sorted(chosen)]


def assign(found: list[Size], sizes: list[Size]) -> Rows:
    """Which of the sizes has the nearest shape to each of the pictures' own, (N,)."""
    return np.asarray(_misses(found, sizes).argmin(axis=1), np.int64)


def _misses(found: list[Size], sizes: list[Size]) -> npt.NDArray[np.float64]:
    """How much of each picture (its rows) would be cut off in each size, as a logarithm."""
    own, offered = (np.array([math.log(width / height) for height, width in these]) for these in (found, sizes))
    return np.asarray(np.abs(own[:, None] - offered), np.float64)


@dataclass(frozen=True)
class Buckets:
    """A feed of data sets whose pictures have different sizes.

    In the time of n pictures of the whole set, as many of each part are seen as it holds; what does not make up a
    batch waits for the next epoch.
    """

    parts: tuple[Dataset, ...]

    def batch(self, seed: int, first: int, count: int) -> tuple[Dataset, Rows]:
        """As :meth:`Dataset.batch`; ``first`` must be a multiple of ``count``."""
        number, rest = divmod(first, count)
        if rest:
            raise ValueError(f"batches of {count} pictures begin at multiples of {count}, not at {first}")
        held = [len(part) for part in self.parts]
        epoch = max(0, first // sum(held) - 1)
        while sum(_before(epoch + 1, n, count) for n in held) <= number:
            epoch += 1
        begun = [_before(epoch, n, count) for n in held]
        ends = np.cumsum([_before(epoch + 1, n, count) - done for n, done in zip(held, begun, strict=True)])
        turn = int(permutation(seed, epoch, int(ends[-1]), "data/buckets")[number - sum(begun)])
        which = int(np.searchsorted(ends, turn, side="right"))
        place = begun[which] + turn - (int(ends[which - 1]) if which else 0)
        return self.parts[which], order(seed, place * count, count, held[which])

    def close(self) -> None:
        pass


def _before(epoch: int, held: int, count: int) -> int:
    """Whole batches that so many pictures have made up before an epoch."""
    return epoch * held // count


def joined(parts: list[Dataset]) -> Dataset:
    """One data set of pictures of several sizes: what is not training sees the part that holds most of them."""
    main = max(parts, key=len)
    return replace(main, stats=_pooled(parts), feed=Buckets(tuple(parts)))


def _pooled(parts: list[Dataset]) -> DataStats:
    """Mean and spread of all values of all parts."""
    weight = np.array([part.images.size for part in parts], np.float64)
    weight /= weight.sum()
    means = np.array([part.stats.mean for part in parts])
    spreads = np.array([part.stats.std for part in parts])
    mean = weight @ means
    variance = weight @ (spreads**2 + ((means - mean) ** 2).mean(axis=1))
    return DataStats(tuple(map(float, mean)), float(np.sqrt(variance)))
