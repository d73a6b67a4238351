"""What a source of pictures yields, before anything is decoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from limner.data.levels import Pixels
from limner.errors import UserError

T = TypeVar("T")

MAX_FILE = 256 * 2**20  # bytes of one picture file, unpacked


class PictureError(Exception):
    """Why one picture cannot be used; it is skipped and the reason listed."""


@dataclass(frozen=True)
class RawSource:
    """Pictures that need no decoding.

    Attributes:
        images: (N, H, W, C) uint8 or uint16, C = 1 (grey), 3 (RGB) or 4 (RGBA).
        label: (N,) int64, or None if the pictures have no classes.
        labels: the names of the classes in the order of their numbers, () if there are none.
        captions: one a picture, or None.
        notes: sentences that the data report should carry.
        mirror_ok: whether a picture means the same when it is flipped left to right.
    """

    images: Pixels
    label: npt.NDArray[np.int64] | None = None
    labels: tuple[str, ...] = ()
    captions: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    mirror_ok: bool = False


class Entry(NamedTuple):
    """One file of a folder or an archive: its name (with "/"), its unpacked size and where an archive holds it.

    A folder's entry has its time of change (ns) for ``offset``.
    """

    name: str
    size: int
    offset: int = 0
    packed: int = 0
    method: int = 0
    crc: int = 0
    flags: int = 0


class Reader(Protocol):
    """An open store. Raises :class:`PictureError` if one file cannot be read."""

    def head(self, entry: Entry, count: int) -> bytes:
        """The first bytes, unchecked; b"" if they cannot be had."""
        ...

    def read(self, entry: Entry) -> bytes: ...

    def open(self, entry: Entry) -> BinaryIO: ...

    def close(self) -> None: ...


class Store(Protocol):
    """A folder or an archive."""

    def entries(self) -> list[Entry]: ...

    def reader(self) -> Reader: ...


@dataclass(frozen=True)
class FileSource:
    """Pictures as files; the arrays are as in :class:`RawSource`, ``skipped`` as in the report."""

    store: Store
    entries: tuple[Entry, ...]
    label: npt.NDArray[np.int64] | None = None
    labels: tuple[str, ...] = ()
    captions: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    mirror_ok: bool = False


Source = RawSource | FileSource


def count(source: Source) -> int:
    return len(source.images) if isinstance(source, RawSource) else len(source.entries)


def select(source: Source, rows: npt.NDArray[np.int64]) -> Source:
    """The same source with these rows only."""
    label = None if source.label is None else source.label[rows]
    captions = None if source.captions is None else pick(source.captions, rows)
    if isinstance(source, RawSource):
        return replace(source, images=source.images[rows], label=label, captions=captions)
    return replace(source, entries=pick(source.entries, rows), label=label, captions=captions)


def pick(values: tuple[T, ...], rows: Iterable[int]) -> tuple[T, ...]:
    return tuple(values[row] for row in rows)


def readable(text: str) -> str:
    """The text as UTF-8 can hold it: half characters, and bytes of names in other encodings, are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def check_raw(source: RawSource, name: str) -> RawSource:
    """The source with (N, H, W, C) images, or a UserError that says what is wrong with its arrays."""
    images, label = source.images, source.label
    if images.dtype not in (np.uint8, np.uint16):
        raise UserError(f"'{name}' holds {images.dtype} pictures; save them as uint8 (0 to 255) or uint16 (to 65,535)")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4):
        raise UserError(f"'{name}' holds an array {images.shape}; pictures are (N, H, W) or (N, H, W, C), C = 1, 3, 4")
    if 0 in images.shape:
        raise UserError(f"'{name}' holds no pictures")
    if label is not None:
        if label.shape != (len(images),):
            raise UserError(f"'{name}' has {len(images)} pictures, but labels of shape {label.shape}")
        if source.labels and not 0 <= int(label.min()) <= int(label.max()) < len(source.labels):
            raise UserError(
                f"'{name}' has labels from {label.min()} to {label.max()}, but {len(source.labels)} classes"
            )
    return replace(source, images=images)
