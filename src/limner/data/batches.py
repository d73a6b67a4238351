"""Batches, a pure function of data order and seed: nothing to save, nothing to restore, no worker processes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from limner.data.augment import Augment, move, recolour, rotate
from limner.data.dataset import Dataset
from limner.data.levels import to_float


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
    mirror = augment.mirrors(dataset.mirror_ok)
    pixels = move(dataset.images, indices, crop=augment.crop, mirror=mirror, seed=seed, samples=samples)
    images = torch.from_numpy(to_float(pixels)).permute(0, 3, 1, 2)
    if augment.rotate:
        images = rotate(images, augment.rotate, seed=seed, samples=samples)
    if augment.colour:
        images = recolour(images, augment.colour, seed=seed, samples=samples)
    label = None if dataset.label is None else torch.from_numpy(dataset.label[indices])
    return images, label
