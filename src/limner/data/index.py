"""Where every picture of a set of shards lies, found in one pass over them and kept in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.data.order import Rows
from limner.data.parallel import Result, run_chunks
from limner.data.shards import Classes, gathered, notes
from limner.data.sources import Entry, FileSource
from limner.data.stores import edges
from limner.data.survey import Progress, workers
from limner.data.tars import TarStore
from limner.errors import UserError
from limner.files import write_whole

VERSION = 1
_ARRAYS = ("counts", "offset", "size", "label")
_ABOUT = "index.json"


@dataclass(frozen=True)
class Index:
    """The pictures of all shards, numbered as they lie; the arrays are maps of files.

    Attributes:
        store: the archives.
        counts: (S,) pictures in each.
        offset, size: (N,) of each picture's file, in bytes.
        label: (N,) class numbers, or None.
        labels: names of the classes.
        notes: for the report.
        digest: changes with whatever was found.
    """

    store: TarStore
    counts: Rows
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64] | None
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.offset)

    def entries(self, rows: Rows) -> tuple[Entry, ...]:
        """The files of these pictures."""
        shards = np.searchsorted(np.cumsum(self.counts), rows, side="right")
        names = self.store.paths
        found = zip(shards.tolist(), self.offset[rows].tolist(), self.size[rows].tolist(), strict=True)
        return tuple(Entry(f"{names[n].name} at byte {at}", size, at, size, n) for n, at, size in found)

    def source(self, rows: Rows) -> FileSource:
        """These pictures as a source of their own."""
        label = None if self.label is None else np.asarray(self.label[rows])
        return FileSource(self.store, self.entries(rows), label, self.labels)


def open_index(paths: tuple[Path, ...], key: str, root: Path, name: str, progress: Progress) -> Index:
    """The index of these archives, from ``root`` if it is there.

    Args:
        paths: of the archives.
        key: changes when an archive does.
        root: folder of all indexes.
        name: what to call the source.
        progress: told of archives done.

    Raises:
        UserError: an archive cannot be read, or there is no picture in any.
    """
    store, folder = TarStore(paths), root / key
    if not (folder / _ABOUT).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _make(store, folder, name, progress)
    about: dict[str, Any] = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    arrays = {name: _load(folder / f"{name}.npy") for name in _ARRAYS}
    label = arrays["label"] if about["labels"] else None
    texts = tuple(about["labels"]), tuple(about["notes"])
    return Index(store, np.array(arrays["counts"]), arrays["offset"], arrays["size"], label, *texts, about["digest"])


def _make(store: TarStore, folder: Path, name: str, progress: Progress) -> None:
    total = len(store.paths)
    results = run_chunks(
        folder,
        "shard",
        total,
        lambda number: _look(store, number),
        valid=lambda number, result: result.get("path") == str(store.paths[number]),
        workers=min(workers(total * 1000), total),
        progress=lambda done: progress("indexing", done, total),
    )
    if not any(result["offset"] for result in results):
        raise UserError(f"'{name}' holds no pictures; expected samples such as 0001.png, 0001.cls, 0001.txt")
    classes = Classes.of([one for result in results for one in result["class"]], name)
    counts = np.array([len(result["offset"]) for result in results], np.int64)
    offset, size = (np.array([one for r in results for one in r[key]], np.int64) for key in ("offset", "size"))
    told = [*classes.notes, *notes(sum(result["without"] for result in results))]
    if classes.kept is not None:
        told.append(f"{len(offset) - len(classes.kept):,} samples have no class (.cls) and are left out")
        shard = np.repeat(np.arange(total), counts)[classes.kept]
        counts, offset, size = np.bincount(shard, minlength=total), offset[classes.kept], size[classes.kept]
    if any(result["captions"] for result in results):
        told.append("captions are left out of a stream")
    label = np.zeros(0, np.int64) if classes.label is None else classes.label
    digest = hashlib.sha256(json.dumps([VERSION, classes.labels]).encode())
    digest.update("".join(result["edges"] for result in results).encode())
    for array, values in zip(_ARRAYS, (counts, offset, size, label), strict=True):
        digest.update(values.astype("<i8").tobytes())
        write_whole(folder / f"{array}.npy", _saver(values))
    about = {"labels": classes.labels, "notes": told, "digest": digest.hexdigest()}
    write_whole(folder / _ABOUT, lambda path: _write(path, json.dumps(about)))
    for done in folder.glob("shard-*.json"):
        done.unlink(missing_ok=True)


def _look(store: TarStore, number: int) -> Result:
    """What lies in one archive."""
    reader = store.reader()
    try:
        found = gathered(store.members(number), reader)
    finally:
        reader.close()
    return {
        "path": str(store.paths[number]),
        "edges": edges(store.paths[number]),
        "offset": [sample.picture.offset for sample in found.samples],
        "size": [sample.picture.size for sample in found.samples],
        "class": [sample.name for sample in found.samples],
        "captions": sum(bool(sample.caption) for sample in found.samples),
        "without": found.without,
    }


def _load(path: Path) -> npt.NDArray[np.int64]:
    values = np.load(path, allow_pickle=False)
    # An empty file cannot be mapped.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) if len(values) else values


def _saver(values: npt.NDArray[np.int64]) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, values.astype(np.int64), allow_pickle=False)

    return save


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
