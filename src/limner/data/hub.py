"""``hf:NAME``: data sets of the Hugging Face hub, or in its formats on this disk, through ``datasets`` (extra ``hub``).

``hf:owner/name``, ``hf:owner/name:config@split`` or ``hf:./folder``. Picture files come undecoded and take the same
way as those of a folder; code of a data set is never run, for no supported version of ``datasets`` can.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from limner.data.sources import MAX_FILE, Entry, FileSource, PictureError, Reader, pick
from limner.errors import UserError, missing, nearest
from limner.files import expanded

if TYPE_CHECKING:
    import datasets

PREFIX = "hf:"
_PICTURE = ("image", "img", "picture", "pixel_values")
_LABEL = ("label", "labels", "class", "cls", "fine_label", "target")
_CAPTION = ("text", "caption", "prompt", "description", "sentence")
_NO_CAPTION = frozenset(("id", "image_id", "file_name", "filename", "path", "url", "key", "split", "license"))
_MOST_CLASSES = 65_536


@dataclass(frozen=True)
class Address:
    """What stands behind ``hf:``; a folder of this disk, or a name on the hub."""

    name: str
    config: str | None
    split: str | None

    @staticmethod
    def of(source: str) -> Address:
        """Raises UserError if the name is missing."""
        body, _, split = source.removeprefix(PREFIX).partition("@")
        name, _, config = body.partition(":")
        if not name:
            raise UserError(f"'{source}' names no data set; write hf:owner/name:config@split or hf:./folder")
        return Address(name, config or None, split or None)

    @property
    def folder(self) -> Path | None:
        path = expanded(self.name)
        return path if path.is_dir() else None


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; ``labels`` are the names of the classes, () if they are only numbered."""

    picture: str
    label: str | None
    labels: tuple[str, ...]
    caption: str | None
    notes: tuple[str, ...]


def open_rows(source: str, progress: bool) -> tuple[datasets.Dataset, str]:
    """The rows that a source names, and the split that they are.

    Raises:
        UserError: ``datasets`` is missing, or the set cannot be found, reached or read; one line.
    """
    try:
        import datasets
    except ImportError:
        raise missing("data sets of the Hugging Face hub", "hub") from None
    address = Address.of(source)
    try:
        with _quiet(bars=progress):
            return _rows(address, source)
    except UserError:
        raise
    except Exception as error:  # of requests, huggingface_hub, fsspec, pyarrow or datasets itself
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"'{source}' cannot be loaded with datasets {datasets.__version__}: {text}") from error


def _rows(address: Address, source: str) -> tuple[datasets.Dataset, str]:
    import datasets

    folder = address.folder
    if folder is not None and any((folder / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
        saved = datasets.load_from_disk(str(folder))
        if isinstance(saved, datasets.Dataset):
            return saved, address.split or "all"
        split = _split(address, list(saved), source)
        return saved[split], split
    name = str(folder.resolve()) if folder is not None else address.name
    split = _split(address, datasets.get_dataset_split_names(name, address.config), source)
    return datasets.load_dataset(name, address.config, split=split), split


def _split(address: Address, known: list[str], source: str) -> str:
    if address.split is None:
        return "train" if "train" in known or not known else known[0]
    if address.split not in known:
        raise UserError(f"'{source}' has no split '{address.split}'{nearest(address.split, known)}")
    return address.split


@contextmanager
def _quiet(*, bars: bool) -> Iterator[None]:
    """No word of each attempt to reach the hub, only of the outcome; no bars either, if not asked for."""
    import datasets
    from huggingface_hub.utils import logging

    had_bars, level = not datasets.are_progress_bars_disabled(), logging.get_verbosity()
    logging.set_verbosity_error()
    if not bars:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bars and not bars:
            datasets.enable_progress_bars()


def columns(features: Mapping[str, Any], source: str) -> Columns:
    """Which columns are pictures, classes and captions, by their types and then by their names.

    Raises:
        UserError: no column holds pictures.
    """
    import datasets

    pictures = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    if not pictures:
        held = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items())
        raise UserError(f"'{source}' has no column of pictures; it has: {held or 'nothing'}")
    picture = _chosen(pictures, _PICTURE) or pictures[0]
    named = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    counted = [name for name, kind in features.items() if _is(kind, "int", "uint") and name.lower() in _LABEL]
    label = _chosen(named, _LABEL) or next(iter((*named, *counted)), None)
    texts = [name for name, kind in features.items() if _is(kind, "string", "large_string")]
    likely = [name for name in texts if name.lower() not in _NO_CAPTION]
    caption = _chosen(texts, _CAPTION) or (likely[0] if len(likely) == 1 else None)
    used = {picture, label, caption}
    left = [name for name in features if name not in used]
    notes = (f"left out: {', '.join(left)}",) if left else ()
    return Columns(picture, label, tuple(features[label].names) if label in named else (), caption, notes)


def _chosen(names: list[str], known: tuple[str, ...]) -> str | None:
    """The name that stands first among the known ones."""
    found = [name for name in names if name.lower() in known]
    return min(found, key=lambda name: known.index(name.lower())) if found else None


def _is(kind: Any, *types: str) -> bool:
    import datasets

    return isinstance(kind, datasets.Value) and str(kind.dtype).rstrip("0123456789") in types


def arrange(rows: datasets.Dataset, split: str, source: str) -> FileSource:
    """The rows as a source of picture files, with classes and captions. Raises UserError."""
    import datasets

    found = columns(rows.features, source)
    if len(rows) == 0:
        raise UserError(f"'{source}' holds no pictures")
    pictures = rows.select_columns([found.picture]).cast_column(found.picture, datasets.Image(decode=False))
    entries = tuple(Entry(f"{split}/{i}", 0, i) for i in range(len(rows)))
    captions = None
    if found.caption is not None:
        captions = tuple("" if text is None else text.strip() for text in _values(rows, found.caption))
    whole = FileSource(_Rows(pictures, found.picture), entries, captions=captions, notes=found.notes)
    return whole if found.label is None else _labelled(whole, _values(rows, found.label), found, source)


def _values(rows: datasets.Dataset, column: str) -> list[Any]:
    values: list[Any] = rows.select_columns([column]).with_format(None)[:][column]
    return values


def _labelled(source: FileSource, values: list[Any], found: Columns, name: str) -> FileSource:
    """The source with classes; rows without one are listed."""
    label = np.array([-1 if value is None else value for value in values], np.int64)
    most = int(label.max())
    if most < 0:
        return source
    if most >= (len(found.labels) or _MOST_CLASSES):
        raise UserError(f"'{name}' has the class {most} in its column '{found.label}', which is too many")
    kept = np.flatnonzero(label >= 0)
    bare = np.flatnonzero(label < 0)
    return FileSource(
        source.store,
        pick(source.entries, kept),
        label[kept],
        found.labels or tuple(map(str, range(most + 1))),
        None if source.captions is None else pick(source.captions, kept),
        source.notes,
        tuple((entry.name, "has no class") for entry in pick(source.entries, bare)),
    )


@dataclass(frozen=True)
class _Rows:
    """Pictures as rows; an entry's ``offset`` is the number of its row."""

    rows: datasets.Dataset
    column: str

    def entries(self) -> list[Entry]:
        return [Entry(str(i), 0, i) for i in range(len(self.rows))]

    def reader(self) -> Reader:
        return _RowReader(self.rows, self.column)


class _RowReader:
    def __init__(self, rows: datasets.Dataset, column: str) -> None:
        self._rows = rows
        self._column = column

    def read(self, entry: Entry) -> bytes:
        try:
            found = self._rows[entry.offset][self._column]
        except Exception as error:  # of pyarrow or datasets
            raise PictureError(f"cannot be read: {' '.join(str(error).split())[:200]}") from error
        if found is None:
            raise PictureError("its row holds no picture")
        data = found["bytes"] if found["bytes"] is not None else _file(found["path"])
        if len(data) > MAX_FILE:
            raise PictureError(f"larger than {MAX_FILE >> 20} MiB")
        return bytes(data)

    def head(self, entry: Entry, count: int) -> bytes:
        try:
            return self.read(entry)[:count]
        except PictureError:
            return b""

    def open(self, entry: Entry) -> BinaryIO:
        return io.BytesIO(self.read(entry))

    def close(self) -> None:
        pass


def _file(name: str | None) -> bytes:
    """A picture that its row only names: a folder of pictures is kept as such."""
    path = Path(name or "")
    try:
        if not path.is_file():
            raise PictureError(f"its row names the file '{name}', which is not on this disk")
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror}") from error
