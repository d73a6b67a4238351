"""``open_dataset``: from what a user named to a data set, out of the cache or as a stream."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from limner.data.bucketing import open_buckets
from limner.data.build import META, Meta, row_bytes
from limner.data.cache import bar, cache_root, cached, is_whole, place
from limner.data.config import Bits, DataConfig, Plan
from limner.data.dataset import Dataset, load
from limner.data.index import Index, open_index
from limner.data.order import Rows
from limner.data.resolve import Resolved, absolute, resolve
from limner.data.stream import Stream, listed
from limner.data.survey import plan_files, sample
from limner.errors import UserError

#: A source is streamed if its decoded pictures would take more than this share of the disk's free space.
_SHARE = 0.5
#: Nothing that is read here unpacks to more than so many times its size, so a source that is this small always fits.
_LARGEST_RATIO = 1032
#: Pictures of a stream that are kept in the cache, and the most bytes that they may take.
_PART, _PART_BYTES = 10_000, 2**30
_LOOKED_AT = 256


def open_dataset(config: DataConfig | str, *, cache: Path | None = None, progress: bool = True) -> Dataset:
    """Open a data set, decoding it into the cache if that has not been done.

    Args:
        config: the settings, or just the source.
        cache: where decoded pictures and downloads are kept; $LIMNER_CACHE or ~/.cache/limner by default.
        progress: draw a bar while it decodes, and print the report's summary line, both on standard error.

    Raises:
        UserError: if there is no such source, it has no usable picture, or the cache cannot be written.
    """
    settings = DataConfig(config) if isinstance(config, str) else config
    root = cache_root(cache)
    resolved = resolve(settings, root / "downloads", progress=progress)
    opener = open_buckets if settings.buckets else _streamed
    dataset = opener(settings, resolved, root, progress)
    if dataset is None:
        dataset = load(cached(replace(settings, buckets=0), resolved, root, progress), settings.source)
    if progress:
        print(dataset.report.summary(), file=sys.stderr)
    return dataset


def pinned(config: DataConfig, dataset: Dataset) -> DataConfig:
    """The settings that open this data set again, from any folder and however full the disk has become."""
    streamed = isinstance(dataset.feed, Stream)
    return replace(config, source=absolute(config.source), stream="on" if streamed else "off")


def _streamed(config: DataConfig, resolved: Resolved, root: Path, progress: bool) -> Dataset | None:
    """The data set as a stream; None where its pictures go into the cache."""
    if config.stream == "on":
        if not resolved.shards:
            raise UserError(f"'{config.source}' cannot be streamed; only .tar shards can")
        if config.limit is not None:
            raise UserError("a limit of pictures and a stream do not go together; leave one of them out")
    elif (
        config.stream == "off"
        or config.limit is not None
        or not resolved.shards
        or _surely_fits(config, resolved, root)
    ):
        return None
    folder = hashlib.sha256(json.dumps(resolved.key).encode()).hexdigest()[:32]
    try:
        with bar(progress, resolved.name) as show:
            index = open_index(resolved.shards, folder, root / "streams", resolved.name, show)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write the index of '{resolved.name}' in '{root}': {reason}; make room") from error
    headers = sample(index.source(_spread(len(index), _LOOKED_AT)))
    if not headers:  # the cache says what is wrong with them
        return None
    each = row_bytes(plan_files(headers, config)[0])
    if config.stream == "auto" and each * len(index) <= _free(root) * _SHARE:
        return None
    return _open(config, resolved.name, index, min(_PART, max(_LOOKED_AT, _PART_BYTES // each)), root, progress)


def _open(config: DataConfig, name: str, index: Index, most: int, root: Path, progress: bool) -> Dataset:
    rows = _spread(len(index), most)
    key = ("part of a stream", index.digest, str(len(rows)))
    few = cached(config, Resolved(name, key, lambda: index.source(rows)), root, progress)
    part, meta = load(few, config.source), Meta.read(few / META)
    plan = Plan(part.spec.size, meta.mode, config.fit, config.background, cast(Bits, meta.bits), config.window)
    folder = root / "streams"
    stream = Stream(part, index, plan, folder / few.name)
    told = f"streamed in blocks of {stream.block:,}; {len(part):,} of the pictures are kept for statistics and measures"
    broken = tuple(sorted({*part.report.skipped, *listed(stream.folder)}))
    notes = (told, *index.notes, *part.report.notes)
    return replace(
        part,
        fingerprint=hashlib.sha256(f"{part.fingerprint} {index.digest}".encode()).hexdigest(),
        report=replace(part.report, used=len(index) - len(broken), skipped=broken, notes=notes),
        feed=stream,
    )


def _spread(total: int, most: int) -> Rows:
    """At most so many rows, evenly spaced."""
    count = min(total, most)
    return np.arange(count, dtype=np.int64) * total // count


def _surely_fits(config: DataConfig, resolved: Resolved, root: Path) -> bool:
    if is_whole(place(config, resolved, root)):
        return True
    packed = sum(path.stat().st_size for path in resolved.shards)
    return packed * _LARGEST_RATIO <= _free(root) * _SHARE


def _free(root: Path) -> int:
    there = next((folder for folder in (root, *root.parents) if folder.exists()), Path("/"))
    return shutil.disk_usage(there).free
