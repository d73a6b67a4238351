"""Data order and batches, both pure functions: nothing to save, nothing to restore, no worker processes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from limner import random
from limner.data.augment import Augment, move, recolour, rotate
from limner.data.dataset import Dataset
from limner.data.levels import to_float


def order(seed: int, start: int, count: int, n: int) -> npt.NDArray[np.int64]:
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
        part = _permutation(seed, epoch, n)[at : at + count]
        parts.append(part)
        start, count = start + len(part), count - len(part)
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, n: int) -> npt.NDArray[np.int64]:
    words = random.bits(seed, torch.arange(n), "data/order", epoch, count=2)
    keys = (words[:, 0] << 31) | (words[:, 1] >> 1)  # 63 bits: two equal ones are not to be expected
    permutation: npt.NDArray[np.int64] = torch.argsort(keys, stable=True).numpy()
    permutation.setflags(write=False)  # it is shared by all callers
    return permutation


def gather(
    dataset: Dataset, indices: npt.NDArray[np.int64], *, augment: Augment, seed: int, samples: Tensor
) -> tuple[Tensor, Tensor | None]:
    """A batch of pictures and their labels.

    Args:
        dataset: where they come from.
        indices: (N,) int64, which ones.
        augment: how they are changed.
        seed: of the changes.
        samples: (N,) int64, the position (images seen) of each: with the seed, it alone decides the changes.

    Returns:
        Pictures (N, C, H, W) float32 in [-1, 1], in channels_last memory, and labels (N,) int64 or None.
    """
    mirror = dataset.mirror_ok if augment.flip is None else augment.flip
    pixels = move(dataset.images, indices, crop=augment.crop, mirror=mirror, seed=seed, samples=samples)
    images = torch.from_numpy(to_float(pixels)).permute(0, 3, 1, 2)
    if augment.rotate:
        images = rotate(images, augment.rotate, seed=seed, samples=samples)
    if augment.colour:
        images = recolour(images, augment.colour, seed=seed, samples=samples)
    label = None if dataset.label is None else torch.from_numpy(dataset.label[indices])
    return images, label
