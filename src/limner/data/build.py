"""From a source to a folder of decoded pictures: survey, decide, decode, seal. Every step can be taken up again."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from limner import random
from limner.contracts import CHANNELS, DataStats, Mode
from limner.data.config import DataConfig, DataReport, Plan
from limner.data.decode import Decoder
from limner.data.deep import placed
from limner.data.headers import Header
from limner.data.levels import DTYPES, Pixels
from limner.data.parallel import Result, run_chunks
from limner.data.seal import seal
from limner.data.sources import FileSource, PictureError, RawSource, Source, count, select
from limner.data.survey import Headers, Progress, pack, plan_files, plan_raw, sample, survey, unpack, workers
from limner.errors import UserError

VERSION = 2
META, LABEL, CAPTIONS, REPORT = "meta.json", "label.npy", "captions.json", "data_report.json"
_CHUNK, _CHUNK_BYTES = 512, 32 * 2**20

Rows = npt.NDArray[np.int64]
Bad = dict[int, str]  # row: reason


def images_file(bits: int) -> str:
    """The name of the file that holds pixels of so many bits, one after the other, low byte first."""
    return f"images.u{bits}"


@dataclass(frozen=True)
class Meta:
    """All that opening a cache needs beside its arrays; written last, so a folder that has it is whole."""

    version: int
    count: int
    size: tuple[int, int]
    mode: Mode
    labels: tuple[str, ...]
    mirror_ok: bool
    fingerprint: str
    stats: DataStats
    bits: int = 8

    @property
    def images(self) -> str:
        """The name of the file that holds the pixels."""
        return images_file(self.bits)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.count, *self.size, CHANNELS[self.mode])

    @staticmethod
    def read(path: Path) -> Meta:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        stats = DataStats(tuple(content["stats"]["mean"]), content["stats"]["std"])
        return Meta(**{**content, "size": tuple(content["size"]), "labels": tuple(content["labels"]), "stats": stats})


def build(source: Source, config: DataConfig, folder: Path, progress: Progress) -> None:
    """Fill ``folder``, which may hold part of the work already, with the data set's files.

    Raises UserError if no picture is usable, OSError if the disk is full; then the folder can be gone on with.
    """
    if config.limit is not None and config.limit < count(source):
        source = select(source, chosen(count(source), config.limit))
    if isinstance(source, RawSource):
        plan, notes = plan_raw(source, config)
        results, bad = _decode(source, plan, folder, progress)
        skipped: list[tuple[str, str]] = []
    else:
        plan, notes, results, bad = _decode_files(source, config, folder, progress)
        skipped = [*source.skipped, *((source.entries[row].name, why) for row, why in bad.items())]
    kept = np.array([row for row in range(count(source)) if row not in bad], np.int64)
    _need(kept, skipped, config.source)
    if bad:
        source = select(source, kept)
    _compact(folder, [int(result["rows"]) for result in results], plan)
    report = DataReport(config.source, len(kept), tuple(sorted(skipped)), source.notes + tuple(notes))
    _finish(source, plan, report, folder)


def _decode_files(
    source: FileSource, config: DataConfig, folder: Path, progress: Progress
) -> tuple[Plan, list[str], list[Result], Bad]:
    """Decode by a plan that fits all pictures.

    Where a sample of the files is of one kind, so are mostly all, and looking at each before it is decoded is saved:
    what decoding finds confirms the plan, or makes another and decodes again.
    """
    headers = sample(source)
    alike = len(headers) == 1
    if not alike:
        headers = survey(source, folder, progress)
    # Where no file has a header, decoding lists the reasons, and any plan will do.
    plan, notes = plan_files(headers or Counter([Header(8, 8, True, False)]), config)
    results, bad = _decode(source, plan, folder, progress)
    seen = unpack(results)
    if alike and seen:
        better, notes = plan_files(seen, config)
        if better != plan:
            plan = better
            results, bad = _decode(source, plan, folder, progress)
    return plan, notes, results, bad


def _need(used: Sequence[int] | Rows, skipped: list[tuple[str, str]], name: str) -> None:
    if len(used) == 0:
        first = f"; the first, '{skipped[0][0]}': {skipped[0][1]}" if skipped else ""
        raise UserError(f"'{name}' has no usable picture: all {len(skipped):,} files are skipped{first}")


def chosen(total: int, limit: int) -> Rows:
    """``limit`` rows of ``total``, ascending: the first of a fixed order, so that a larger limit only adds."""
    keys = random.bits(0, torch.arange(total), "data/limit").reshape(-1)
    return np.asarray(torch.argsort(keys, stable=True)[:limit].sort().values.numpy(), np.int64)


def row_bytes(plan: Plan) -> int:
    """What one picture takes in the cache."""
    return plan.size[0] * plan.size[1] * CHANNELS[plan.mode] * plan.bits // 8


def _chunk(plan: Plan) -> int:
    """How many pictures are decoded as one piece of work."""
    return min(_CHUNK, max(1, _CHUNK_BYTES // row_bytes(plan)))


def _decode(source: Source, plan: Plan, folder: Path, progress: Progress) -> tuple[list[Result], Bad]:
    """Decode into the file of pixels, a chunk's good pictures from the chunk's first row on; and the bad rows."""
    total, row, chunk = count(source), row_bytes(plan), _chunk(plan)
    pictures = _from_files(source, plan) if isinstance(source, FileSource) else _from_arrays(source, plan)
    path = folder / images_file(plan.bits)
    path.open("ab").close()
    Image.init()  # before helpers are forked, so that none of them has to import

    def work(i: int) -> Result:
        pixels, headers, bad = pictures(i * chunk, min((i + 1) * chunk, total))
        with path.open("r+b", buffering=0) as file:
            file.seek(i * chunk * row)
            _write_all(file.fileno(), pixels)
        return {"rows": len(pixels), "bad": bad, "headers": pack(headers), "crc": zlib.crc32(pixels.data)}

    def valid(i: int, result: Result) -> bool:
        with path.open("rb") as file:
            file.seek(i * chunk * row)
            return bool(zlib.crc32(file.read(int(result["rows"]) * row)) == result["crc"])

    results = run_chunks(
        folder,
        f"decode-{zlib.crc32(repr(plan).encode()):08x}",
        -(-total // chunk),
        work,
        valid=valid,
        workers=workers(total) if isinstance(source, FileSource) or plan.size != source.images.shape[1:3] else 1,
        progress=lambda done: progress("decoding", min(done * chunk, total), total),
    )
    return results, {i * chunk + int(at): str(why) for i, result in enumerate(results) for at, why in result["bad"]}


def _write_all(file: int, pixels: Pixels) -> None:
    left = pixels.reshape(-1).view(np.uint8).data
    while len(left):  # a nearly full disk takes a part first, and raises at the next try
        left = left[os.write(file, left) :]


Decoded = tuple[Pixels, Headers, list[tuple[int, str]]]  # the good ones, what they are, and (place, reason) of bad ones


def _from_files(source: FileSource, plan: Plan) -> Callable[[int, int], Decoded]:
    def pictures(start: int, stop: int) -> Decoded:
        decoder, bad = Decoder(plan, stop - start), []
        reader = source.store.reader()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of what the report lists
                for i, entry in enumerate(source.entries[start:stop]):
                    try:
                        decoder.add(reader.read(entry))
                    except PictureError as why:
                        bad.append((i, str(why)))
        finally:
            reader.close()
        return decoder.finish(), Counter(decoder.headers), bad

    return pictures


def _from_arrays(source: RawSource, plan: Plan) -> Callable[[int, int], Decoded]:
    images, mode = source.images, {1: "L", 3: "RGB", 4: "RGBA"}[source.images.shape[3]]
    ready = (images.shape[1:3], mode, images.dtype) == (plan.size, plan.mode, DTYPES[plan.bits])

    def pictures(start: int, stop: int) -> Decoded:
        part = np.ascontiguousarray(images[start:stop])
        return part if ready else np.stack([placed(picture, plan) for picture in part]), Counter(), []

    return pictures


def _compact(folder: Path, rows: list[int], plan: Plan) -> None:
    """Close the gaps that bad pictures left at the ends of chunks, and cut off what lies behind the last picture."""
    row, chunk, path = row_bytes(plan), _chunk(plan), folder / images_file(plan.bits)
    if all(used == chunk for used in rows[:-1]):
        os.truncate(path, sum(rows) * row)
        return
    packed = path.with_suffix(".packed")
    with path.open("rb") as old, packed.open("wb") as new:
        for i, used in enumerate(rows):
            old.seek(i * chunk * row)
            new.write(old.read(used * row))
    packed.replace(path)


def _finish(source: Source, plan: Plan, report: DataReport, folder: Path) -> None:
    """Write what stands beside the pictures, and META when all the rest is on disk."""
    if source.label is not None:
        np.save(folder / LABEL, source.label, allow_pickle=False)
    if source.captions is not None:
        text = json.dumps(source.captions, ensure_ascii=False)
        (folder / CAPTIONS).write_text(text, encoding="utf-8", errors="backslashreplace")
    report.write(folder / REPORT)
    shape = (report.used, *plan.size, CHANNELS[plan.mode])
    path = folder / images_file(plan.bits)
    images: Pixels = np.memmap(path, DTYPES[plan.bits], "r", shape=shape)
    digest, stats = seal(images)
    # Eight bits are not told: sets that were opened before there were others keep their fingerprints.
    said = json.dumps([VERSION, shape, source.labels, source.captions, *([] if plan.bits == 8 else [plan.bits])])
    label = b"" if source.label is None else source.label.astype("<i8").tobytes()
    fingerprint = hashlib.sha256(b"\0".join([said.encode(), label, digest])).hexdigest()
    meta = Meta(
        VERSION, report.used, plan.size, plan.mode, source.labels, source.mirror_ok, fingerprint, stats, plan.bits
    )
    del images
    others = (folder / images_file(bits) for bits in DTYPES if bits != plan.bits)  # a first plan's
    for done in (*folder.glob("survey-*"), *folder.glob("decode-*"), *others):
        done.unlink(missing_ok=True)
    for file in (path, folder / LABEL, folder / CAPTIONS, folder / REPORT):
        _sync(file)
    temporary = folder / f"{META}.tmp"
    temporary.write_text(json.dumps(asdict(meta)), encoding="utf-8")
    _sync(temporary)
    temporary.replace(folder / META)


def _sync(path: Path) -> None:
    if path.exists():
        with path.open("r+b") as file:
            os.fsync(file.fileno())
