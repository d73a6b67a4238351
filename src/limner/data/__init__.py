"""Pictures for training: sources, the decoded cache, data order and augmentation."""

from __future__ import annotations

from .augment import NO_AUGMENT, Augment
from .batches import gather, order
from .catalogue import CATALOGUE
from .config import DataConfig, DataReport
from .dataset import Dataset, open_dataset
from .sources import RawSource

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
]
