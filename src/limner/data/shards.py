"""What lies in a tar archive: samples in the layout of WebDataset, or folders of pictures.

In that layout the files of one sample follow each other and share a name up to the first dot of its last part; what
comes after says what a file is: ``0001.png``, ``0001.cls``, ``0001.txt`` (https://github.com/webdataset/webdataset).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.data import layout
from limner.data.sources import Entry, FileSource, PictureError, Reader, pick, readable
from limner.data.tars import TarStore
from limner.errors import UserError

_COMMON = ("jpg", "jpeg", "png", "webp", "avif", "tif", "tiff", "bmp", "gif")
_PICTURES = frozenset((*_COMMON, "ppm", "pgm", "pbm", "pnm", "jp2", "j2k", "qoi", "ico", "dcm", "dicom"))
_CLASS, _TEXT, _TABLE = "cls", "txt", "json"
_MOST_TEXT, _MOST_CLASSES = 64 * 2**10, 65_536
_MOSTLY = 0.9  # this share of the samples with a class makes the rest strays


@dataclass(frozen=True)
class Sample:
    """A picture, and what its archive says of it; "" where it says nothing."""

    picture: Entry
    name: str
    caption: str


@dataclass
class Found:
    """The samples of one or several archives, as they lie."""

    samples: list[Sample] = field(default_factory=list)
    without: int = 0  # samples that have no picture


def arrange(store: TarStore, name: str) -> FileSource:
    """The pictures of archives, with classes and captions.

    Where one archive holds nothing that is typical of WebDataset, it is taken for a folder with sub-folders as classes.
    """
    entries = store.entries()
    if len(store.paths) == 1 and not _is_typical(entries):
        return layout.arrange(store, name, entries)
    reader = store.reader()
    try:
        found = gathered(entries, reader)
    finally:
        reader.close()
    if not found.samples:
        raise UserError(f"'{name}' holds no pictures; expected samples such as 0001.png, 0001.cls, 0001.txt")
    classes = Classes.of([sample.name for sample in found.samples], name)
    used = found.samples if classes.kept is None else [found.samples[row] for row in classes.kept]
    captions = tuple(sample.caption for sample in used)
    dropped = sorted(set(range(len(found.samples))) - set(map(int, classes.kept))) if classes.kept is not None else []
    return FileSource(
        store,
        tuple(sample.picture for sample in used),
        classes.label,
        classes.labels,
        captions if any(captions) else None,
        (*classes.notes, *notes(found.without)),
        tuple((sample.picture.name, "has no class (.cls)") for sample in pick(tuple(found.samples), dropped)),
    )


def _is_typical(entries: list[Entry]) -> bool:
    """Whether a picture has a class or a table that share its name."""
    parts = [_split(entry.name) for entry in entries]
    pictures = {stem for stem, kind in parts if kind.rpartition(".")[2].lower() in _PICTURES}
    return any(kind.lower() in (_CLASS, _TABLE) and stem in pictures for stem, kind in parts)


def notes(without: int) -> tuple[str, ...]:
    """What a report says of samples that have no picture."""
    return (f"{without:,} samples have no picture",) if without else ()


def gathered(entries: Iterable[Entry], reader: Reader) -> Found:
    """The samples that these files, in the order of their archives, make up."""
    found = Found()
    for _, files in groupby(entries, key=lambda entry: (entry.method, _split(entry.name)[0])):
        parts = {_split(entry.name)[1].lower(): entry for entry in files}
        picture = next(_pictures(parts), None)
        if picture is None:
            found.without += 1
        else:
            found.samples.append(Sample(picture, _text(parts.get(_CLASS), reader), _caption(parts, reader)))
    return found


def _pictures(parts: dict[str, Entry]) -> Iterator[Entry]:
    """``png`` goes before ``depth.png``."""
    for kind in sorted(parts, key=lambda kind: "." in kind):
        if kind.rpartition(".")[2] in _PICTURES:
            yield parts[kind]


def _split(name: str) -> tuple[str, str]:
    """A file's name up to the first dot of its last part, and what comes after."""
    folder, slash, last = name.rpartition("/")
    stem, _, kind = last.partition(".")
    return folder + slash + stem, kind


def _text(entry: Entry | None, reader: Reader) -> str:
    if entry is None or entry.size > _MOST_TEXT:
        return ""
    try:
        return reader.read(entry).decode("utf-8-sig", errors="replace").strip()
    except PictureError:
        return ""


def _caption(parts: dict[str, Entry], reader: Reader) -> str:
    text = _text(parts.get(_TEXT), reader)
    if text or _TABLE not in parts:
        return text
    try:
        table: Any = json.loads(_text(parts[_TABLE], reader))
    except (ValueError, RecursionError):
        return ""
    values = [table.get(key) for key in ("caption", "text")] if isinstance(table, dict) else []
    return next((readable(value.strip()) for value in values if isinstance(value, str)), "")


@dataclass(frozen=True)
class Classes:
    """Classes from the texts of ``.cls`` files.

    Attributes:
        label: (N,) int64 of the samples that are kept, or None.
        labels: their names.
        kept: which samples have a class, where some have none; None keeps all.
        notes: for the report.
    """

    label: npt.NDArray[np.int64] | None = None
    labels: tuple[str, ...] = ()
    kept: npt.NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(names: Sequence[str], source: str) -> Classes:
        """``names`` of the samples' classes, "" for none. Numbers are classes counted from 0, as they are."""
        known = np.array([bool(name) for name in names])
        if not known.any():
            return Classes()
        if known.mean() < _MOSTLY:
            missing = len(names) - int(known.sum())
            return Classes(notes=(f"{missing:,} of {len(names):,} samples have no class, so classes are not taken",))
        kept = None if known.all() else np.flatnonzero(known)
        used = names if kept is None else [names[row] for row in kept.tolist()]
        distinct = set(used)
        if all(name.isascii() and name.isdigit() and len(name) < 10 for name in distinct):
            most = max(map(int, distinct))
            labels = tuple(map(str, range(most + 1))) if most < _MOST_CLASSES else ()
            number = {name: int(name) for name in distinct}
        else:
            labels = tuple(sorted(distinct, key=layout.natural)) if len(distinct) <= _MOST_CLASSES else ()
            number = {name: i for i, name in enumerate(labels)}
        if not labels:
            raise UserError(f"'{source}' has more than {_MOST_CLASSES:,} classes in its .cls files")
        return Classes(np.array([number[name] for name in used], np.int64), labels, kept)
