"""Opening a source in several sizes: each file's size is looked at once, and every size is a folder of the cache."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from limner.data.buckets import Size, assign, choose, joined
from limner.data.build import chosen
from limner.data.cache import bar, cached
from limner.data.config import DataConfig
from limner.data.dataset import Dataset, load
from limner.data.decode import read_header
from limner.data.headers import Header
from limner.data.order import Rows
from limner.data.parallel import run_chunks
from limner.data.resolve import Resolved
from limner.data.sources import FileSource, PictureError, Source, select
from limner.data.survey import Progress, plan_files, workers
from limner.errors import UserError
from limner.files import write_json

_CHUNK = 1024
_VERSION = 1


def open_buckets(config: DataConfig, resolved: Resolved, root: Path, progress: bool) -> Dataset | None:
    """The data set in up to ``config.buckets`` sizes; None where all pictures have one size.

    Raises:
        UserError: the source is one array, or no picture can be read.
    """
    said = json.dumps([_VERSION, resolved.key, config.buckets, config.size, config.limit, config.mode, config.bits])
    folder = root / "buckets" / hashlib.sha256(said.encode()).hexdigest()[:32]
    source = cache(lambda: _limited(resolved.load(), config))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "sizes.json").is_file():
            with bar(progress, resolved.name) as show:
                _look(source(), config, folder, show)
        about: dict[str, Any] = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write the sizes of '{resolved.name}' in '{folder}': {reason}; make room") from error
    sizes = [(height, width) for height, width in about["sizes"]]
    if len(sizes) < 2:
        return None
    which = np.array(about["which"], np.int64)
    plain = replace(config, buckets=0, limit=None, mode=about["mode"], bits=about["bits"])
    parts = [
        load(cached(replace(plain, size=size), _part(resolved, source, which, number), root, progress), config.source)
        for number, size in enumerate(sizes)
    ]
    return _reported(joined(parts), parts, config)


def _limited(source: Source, config: DataConfig) -> FileSource:
    if not isinstance(source, FileSource):
        raise UserError(f"'{config.source}' is an array of pictures of one size; leave buckets out")
    if config.limit is not None and config.limit < len(source.entries):
        source = select(source, chosen(len(source.entries), config.limit))
        assert isinstance(source, FileSource)
    return source


def _look(source: FileSource, config: DataConfig, folder: Path, progress: Progress) -> None:
    """Choose the sizes, and one for each picture; unreadable ones go to the first, whose report will list them."""
    total = len(source.entries)
    results = run_chunks(
        folder,
        "headers",
        -(-total // _CHUNK),
        lambda i: {"headers": _headers(source, i * _CHUNK, (i + 1) * _CHUNK)},
        valid=lambda i, result: "headers" in result,
        workers=workers(total),
        progress=lambda done: progress("looking", min(done * _CHUNK, total), total),
    )
    headers = [None if one is None else Header(*one) for result in results for one in result["headers"]]
    known = [header for header in headers if header is not None]
    if not known:
        raise UserError(f"'{config.source}' has no usable picture: none of {total:,} files can be read")
    plan, _ = plan_files(Counter(known), config)
    own = [(header.height, header.width) for header in known]
    sizes = choose(Counter(own), plan.size[0] * plan.size[1], config.buckets)
    which = np.zeros(total, np.int64)
    which[[row for row, header in enumerate(headers) if header is not None]] = assign(own, sizes)
    used = sorted(set(which.tolist()))
    content = {
        "sizes": [sizes[number] for number in used],
        "which": np.searchsorted(used, which).tolist(),
        "mode": plan.mode,
        "bits": plan.bits,
    }
    write_json(folder / "sizes.json", content)
    for done in folder.glob("headers-*.json"):
        done.unlink(missing_ok=True)


def _headers(source: FileSource, start: int, stop: int) -> list[Header | None]:
    found: list[Header | None] = []
    reader = source.store.reader()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what the report lists
            for entry in source.entries[start:stop]:
                found.append(None)
                with suppress(PictureError):
                    found[-1] = read_header(reader, entry)
    finally:
        reader.close()
    return found


def _part(resolved: Resolved, source: Callable[[], FileSource], which: Rows, number: int) -> Resolved:
    rows = np.flatnonzero(which == number)
    digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()

    def take() -> Source:
        whole = source()
        # What the source says of itself as a whole is told once.
        return select(whole if number == 0 else replace(whole, skipped=(), notes=()), rows)

    return Resolved(resolved.name, (*resolved.key, "part", digest), take)


def _reported(dataset: Dataset, parts: list[Dataset], config: DataConfig) -> Dataset:
    shapes = ", ".join(f"{len(part):,} of {_shape(part.spec.size)}" for part in parts)
    told = f"in {len(parts)} sizes (height x width): {shapes}; measures look at {_shape(dataset.spec.size)}"
    notes = dict.fromkeys((told, *(note for part in parts for note in part.report.notes)))
    report = replace(
        dataset.report,
        used=sum(len(part) for part in parts),
        skipped=tuple(sorted(one for part in parts for one in part.report.skipped)),
        notes=tuple(notes),
    )
    fingerprint = hashlib.sha256(" ".join(part.fingerprint for part in parts).encode()).hexdigest()
    return replace(dataset, fingerprint=fingerprint, report=report)


def _shape(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
