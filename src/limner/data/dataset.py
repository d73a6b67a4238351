"""A data set, as training and measures see it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from limner.contracts import CHANNELS, DataStats, ImageSpec
from limner.data.build import CAPTIONS, LABEL, META, REPORT, Meta
from limner.data.config import DataReport
from limner.data.levels import DTYPES, Pixels
from limner.data.order import Rows, order
from limner.data.sources import pick
from limner.errors import UserError


class Feed(Protocol):
    """Where a training's pictures come from if they do not all lie in one array."""

    def batch(self, seed: int, first: int, count: int) -> tuple[Dataset, Rows]:
        """As :meth:`Dataset.batch`."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Dataset:
    """Decoded pictures and what is known of them.

    Attributes:
        spec: what a picture is.
        images: (N, H, W, C) uint8, or uint16 where the spec has 16 bits; a read-only map of a file.
        label: (N,) int64, or None.
        labels: the names of the classes, () if there are none.
        captions: one a picture ("" where it has none), or None.
        fingerprint: SHA-256 of pixels, labels and captions, 64 hex digits; the same from a folder, a zip or an array.
        report: what was used and what was skipped.
        stats: mean and spread of the pictures' values.
        mirror_ok: whether a picture means the same when it is flipped left to right.
        feed: what a training sees, where that is not ``images``; they are then a part of the set, for all else.
    """

    spec: ImageSpec
    images: Pixels
    label: npt.NDArray[np.int64] | None
    labels: tuple[str, ...]
    captions: tuple[str, ...] | None
    fingerprint: str
    report: DataReport
    stats: DataStats
    mirror_ok: bool = False
    feed: Feed | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, seed: int, first: int, count: int) -> tuple[Dataset, Rows]:
        """What a training sees at the positions ``first`` to ``first + count``, counted in images seen.

        A pure function of these and the seed: a data set of pictures of one size, and (count,) indices into it.
        """
        if self.feed is not None:
            return self.feed.batch(seed, first, count)
        return self, order(seed, first, count, len(self))

    def close(self) -> None:
        """Let go of what only a training needs."""
        if self.feed is not None:
            self.feed.close()

    def subset(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Dataset:
        """These pictures, in this order. A view if the indices are evenly spaced, else a copy in memory.

        ``stats`` stay those of the whole, so that a part is scaled as the whole is.
        """
        rows = np.asarray(indices, np.int64).reshape(-1)
        if len(rows) == 0 or rows.min() < 0 or rows.max() >= len(self):
            raise UserError(f"a subset needs indices in 0 to {len(self) - 1}, and at least one")
        where = _slice(rows)
        digest = hashlib.sha256(self.fingerprint.encode() + rows.astype("<i8").tobytes())
        return replace(
            self,
            images=self.images[rows if where is None else where],
            label=None if self.label is None else self.label[rows],
            captions=None if self.captions is None else pick(self.captions, rows),
            fingerprint=digest.hexdigest(),
            report=replace(self.report, used=len(rows)),
            feed=None,
        )


def _slice(rows: npt.NDArray[np.int64]) -> slice | None:
    """The slice that takes the same rows, if one does."""
    step = int(rows[1] - rows[0]) if len(rows) > 1 else 1
    if step <= 0 or not (np.diff(rows) == step).all():
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1, step)


def load(folder: Path, source: str) -> Dataset:
    """The decoded pictures in a folder of the cache."""
    meta = Meta.read(folder / META)
    images = np.asarray(np.memmap(folder / meta.images, DTYPES[meta.bits], "r", shape=meta.shape))
    label, captions = folder / LABEL, folder / CAPTIONS
    return Dataset(
        spec=ImageSpec(CHANNELS[meta.mode], meta.size, meta.mode, meta.bits),
        images=images,
        label=np.load(label, allow_pickle=False) if label.exists() else None,
        labels=meta.labels,
        captions=tuple(json.loads(captions.read_text(encoding="utf-8"))) if captions.exists() else None,
        fingerprint=meta.fingerprint,
        report=replace(DataReport.read(folder / REPORT), source=source),
        stats=meta.stats,
        mirror_ok=meta.mirror_ok,
    )
