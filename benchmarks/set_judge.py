"""The judge of sets that are used whole: samples beside the pictures that they were learned from.

What is real is one half of the set beside the other: no more than that can be asked of samples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

import limner
from limner.data import Dataset
from limner.metrics import evaluate
from limner.random import bits
from mnist import Cell

METRICS = ("fd", "precision", "recall", "coverage")


def scores(
    pictures: npt.NDArray[np.uint8 | np.uint16],
    against: Dataset,
    extractor: str,
    metrics: tuple[str, ...] = METRICS,
) -> Cell:
    """Of pictures (N, H, W, C)."""
    eyes = limner.load_extractor(extractor, shape=against.images.shape[1:])
    report = evaluate(pictures, against, extractor=eyes, metrics=metrics)
    return {name: report.value(name) for name in metrics}


def halves(dataset: Dataset, extractor: str) -> Cell:
    """What one half scores beside the other."""
    order = bits(2024, torch.arange(len(dataset)), "halves")[:, 0].argsort(stable=True).numpy()
    one, other = (dataset.subset(np.sort(part)) for part in np.array_split(order, 2))
    return scores(np.ascontiguousarray(one.images), other, extractor)


def row(told: Mapping[str, float]) -> str:
    """Cells of a table: the four measures."""
    return f"{told['fd']:.4g} | " + " | ".join(f"{told[name]:.3f}" for name in METRICS[1:])
