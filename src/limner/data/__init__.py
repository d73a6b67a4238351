"""Pictures for training: sources, the decoded cache, data order and augmentation."""

from __future__ import annotations

from limner.data.augment import NO_AUGMENT, Augment
from limner.data.batches import gather
from limner.data.catalogue import CATALOGUE
from limner.data.config import DataConfig, DataReport
from limner.data.dataset import Dataset
from limner.data.opening import open_dataset, pinned
from limner.data.order import order
from limner.data.sources import RawSource

__all__ = [
    "CATALOGUE",
    "NO_AUGMENT",
    "Augment",
    "DataConfig",
    "DataReport",
    "Dataset",
    "RawSource",
    "gather",
    "open_dataset",
    "order",
    "pinned",
]
