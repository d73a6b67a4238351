"""Of which classes samples are drawn that are to be judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from limner.data import Dataset
from limner.metrics.choice import in_proportion


def class_numbers(classes: Sequence[str], reference: Dataset, n: int) -> list[int]:
    """(n,) a class for each of n samples, as numbers of ``classes``, which has at least one: in the proportions of the
    reference, whose own pictures would else score badly; alike where it does not know all of them
    (:func:`knows`)."""
    return in_proportion(_counts(classes, reference) or [1] * len(classes), n)


def knows(reference: Dataset, classes: Sequence[str]) -> bool:
    """Whether the reference says how often each of these classes is."""
    return bool(_counts(classes, reference))


def _counts(classes: Sequence[str], reference: Dataset) -> list[int]:
    """How many of the reference pictures are of each class; [] where it does not know all, or has none of them."""
    if reference.label is None or not set(classes) <= set(reference.labels):
        return []
    held = dict(zip(reference.labels, np.bincount(reference.label, minlength=len(reference.labels)), strict=True))
    counts = [int(held[name]) for name in classes]
    return counts if any(counts) else []
