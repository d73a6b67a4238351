"""In which order pictures are seen: pure functions of a seed and of how many images were seen before."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from limner import random

Rows = npt.NDArray[np.int64]


def order(seed: int, start: int, count: int, n: int) -> Rows:
    """Which pictures are seen at the positions ``start`` to ``start + count`` (counted in images seen).

    Position p lies in epoch p // n; every epoch is its own permutation of the n pictures.

    Args:
        seed: any integer; its low 64 bits count.
        start: the first position, 0 or more.
        count: how many positions.
        n: how many pictures there are.

    Returns:
        (count,) int64 indices.
    """
    if start < 0 or count < 0 or n < 1:
        raise ValueError(f"order needs start >= 0, count >= 0 and n >= 1, not {start}, {count}, {n}")
    parts = []
    while count > 0:
        epoch, at = divmod(start, n)
        part = permutation(seed, epoch, n)[at : at + count]
        parts.append(part)
        start, count = start + len(part), count - len(part)
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


@lru_cache(maxsize=16)
def permutation(seed: int, epoch: int, n: int, stream: str = "data/order") -> Rows:
    """An epoch's own permutation of n things, (n,) int64, which callers share and cannot change."""
    shuffled = shuffle(seed, torch.arange(n), epoch, stream)
    shuffled.setflags(write=False)
    return shuffled


def shuffle(seed: int, keys: torch.Tensor, epoch: int, stream: str) -> Rows:
    """A permutation of (N,) things, each with a number of its own in ``keys``."""
    words = random.bits(seed, keys, stream, epoch, count=2)
    drawn = (words[:, 0] << 31) | (words[:, 1] >> 1)  # 63 bits: two equal ones are not to be expected
    shuffled: Rows = torch.argsort(drawn, stable=True).numpy()
    return shuffled


def shard_rows(seed: int, epoch: int, start: int, stop: int, counts: Rows) -> Rows:
    """Which pictures lie at the positions ``start`` to ``stop`` of an epoch that goes through shards whole.

    Every epoch is its own permutation of the shards; within a shard the pictures stay as they lie.

    Args:
        seed: any integer.
        epoch: its number.
        start, stop: positions in the epoch, 0 to the number of pictures.
        counts: (S,) pictures in each shard, which are numbered from shard to shard.

    Returns:
        (stop - start,) int64 numbers of pictures.
    """
    shards = permutation(seed, epoch, len(counts), "data/shards")
    ends = np.cumsum(counts[shards])
    first = np.cumsum(counts) - counts
    at = np.arange(start, stop)
    turn = np.searchsorted(ends, at, side="right")
    shard = shards[turn]
    return np.asarray(first[shard] + at - (ends[turn] - counts[shard]), np.int64)
