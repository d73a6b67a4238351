"""Sources whose pictures lie there as arrays: NumPy's .npz and MNIST's idx, plain or gzipped."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.data.sources import RawSource, check_raw
from limner.errors import UserError

_IMAGES = ("images", "x", "x_train", "train_images", "arr_0")
_LABELS = {"images": ("labels", "label", "y"), "x": ("y", "labels"), "x_train": ("y_train",), "arr_0": ("arr_1",)}
_MOST_CLASSES = 65_536
_DEFLATE_RATIO = 1032  # no deflate stream unpacks to more than this many times its size
_DAMAGE = (OSError, ValueError, KeyError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_npz(path: Path) -> RawSource:
    """The pictures of an .npz file, under one of the names images, x, x_train, arr_0 or ``*_images``."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if isinstance(arrays, np.ndarray):
                raise ValueError("it holds one nameless array; save it with numpy.savez(path, images=...)")
            key = _image_key(arrays.files, path)
            images = arrays[key]
            label_key = next((name for name in _label_keys(key) if name in arrays.files), None)
            label = None if label_key is None else arrays[label_key]
            others = [name for name in arrays.files if name.endswith("images") and name != key]
    except _DAMAGE as error:
        raise UserError(f"'{path}' cannot be read as an .npz file: {error}") from error
    notes = tuple(f"{name} is left out" for name in others)
    if label is not None and not _is_classes(label, len(images) if images.ndim else 0):
        notes, label = (*notes, f"{label_key} {label.shape} {label.dtype} is not one class a picture, left out"), None
    return _source(path, images, label, notes)


def _image_key(names: list[str], path: Path) -> str:
    known = [name for name in _IMAGES if name in names] or [name for name in names if name.endswith("_images")]
    if not known:
        raise UserError(f"'{path}' has no array named 'images'; it holds: {', '.join(names) or 'nothing'}")
    return known[0]


def _label_keys(key: str) -> tuple[str, ...]:
    return _LABELS.get(key, (key.removesuffix("images") + "labels",))


def _is_classes(label: npt.NDArray[Any], count: int) -> bool:
    return label.dtype.kind in "iu" and label.size == count and label.shape[:1] == (count,)


def _source(
    path: Path, images: npt.NDArray[Any], label: npt.NDArray[Any] | None, notes: tuple[str, ...] = ()
) -> RawSource:
    if label is None:
        return check_raw(RawSource(images, notes=notes), str(path))
    classes = label.reshape(-1).astype(np.int64)
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < _MOST_CLASSES:
        raise UserError(f"'{path}' has labels from {classes.min()} to {classes.max()}; classes are counted from 0")
    names = tuple(str(i) for i in range(int(classes.max(initial=-1)) + 1))
    return check_raw(RawSource(images, classes, names, notes=notes), str(path))


def read_idx(path: Path) -> RawSource:
    """The pictures of an idx file; the labels are those of the file beside it that has "labels" for "images".

    The format: http://yann.lecun.com/exdb/mnist (two zero bytes, type, number of dimensions, big-endian sizes, data).
    """
    images = _read_idx(path)
    labels = label_file(path)
    if labels is None:
        return _source(path, images, None)
    label = _read_idx(labels)
    if not _is_classes(label, len(images)):
        raise UserError(f"'{labels}' holds {label.shape} labels for the {len(images)} pictures of '{path.name}'")
    return _source(path, images, label)


def label_file(path: Path) -> Path | None:
    """Where the labels of an idx file of images lie, or None."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    beside = path.with_name(name)
    return beside if name != path.name and beside.is_file() else None


def _read_idx(path: Path) -> npt.NDArray[np.uint8]:
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != 8 or not 1 <= magic[3] <= 4:
                raise ValueError("it does not start as an idx file of bytes does")
            shape = struct.unpack(f">{magic[3]}I", file.read(4 * magic[3]))
            size = 1
            for side in shape:
                size *= side
            if size > path.stat().st_size * (_DEFLATE_RATIO if packed else 1):
                raise ValueError(f"its header promises {shape}, more than the file can hold")
            data = file.read(size)
    except (*_DAMAGE, struct.error) as error:
        raise UserError(f"'{path}' cannot be read as an idx file: {error}") from error
    if len(data) != size:
        raise UserError(f"'{path}' is cut short: {len(data):,} of {size:,} bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)
