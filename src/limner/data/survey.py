"""What the files say of themselves before they are decoded, and what is decided from it: one size and one mode."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from PIL import Image

from limner.contracts import Mode
from limner.data.config import Bits, DataConfig, Plan
from limner.data.decode import read_header
from limner.data.headers import Header
from limner.data.levels import bits_of
from limner.data.parallel import Result, run_chunks
from limner.data.sources import Entry, FileSource, PictureError, RawSource

AUTO_LONGEST = 256
_AGREE = 0.95
_MULTIPLE = 8
_CHUNK = 4096
_SAMPLE = 256
_FEW = 512  # below this, helpers cost more than they bring
_MOST_WORKERS = 16

Progress = Callable[[str, int, int], None]


def workers(pictures: int) -> int:
    """How many helpers so many pictures are worth on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if pictures < _FEW else min(cores, _MOST_WORKERS)


Headers = Counter[Header]


def sample(source: FileSource) -> Headers:
    """The headers of a few files, spread over the source; files that have none are left out."""
    step = -(-len(source.entries) // _SAMPLE)
    return _headers(source, source.entries[::step])


def survey(source: FileSource, folder: Path, progress: Progress) -> Headers:
    """The headers of all files; files that have none are left out, for decoding them will say why."""
    total = len(source.entries)
    chunk = min(_CHUNK, max(1, -(-total // workers(total))))
    Image.init()  # before helpers are forked, so that none of them has to import
    results = run_chunks(
        folder,
        f"survey-{chunk}",  # pieces of another length, of a run with more helpers or fewer, are not these
        -(-total // chunk),
        lambda i: {"headers": pack(_headers(source, source.entries[i * chunk : (i + 1) * chunk]))},
        valid=lambda i, result: "headers" in result,
        workers=workers(total),
        progress=lambda done: progress("looking", min(done * chunk, total), total),
    )
    return unpack(results)


def _headers(source: FileSource, entries: tuple[Entry, ...]) -> Headers:
    found: Headers = Counter()
    reader = source.store.reader()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what the report lists
            for entry in entries:
                with suppress(PictureError):
                    found[read_header(reader, entry)] += 1
    finally:
        reader.close()
    return found


def pack(headers: Headers) -> list[list[int]]:
    """Headers and how often each, for JSON."""
    return [[*map(int, header), times] for header, times in headers.items()]


def unpack(results: list[Result]) -> Headers:
    """The headers of all chunks together."""
    total: Headers = Counter()
    for result in results:
        for height, width, *flags, times in result["headers"]:
            total[Header(height, width, *map(bool, flags))] += times
    return total


def plan_files(headers: Headers, config: DataConfig) -> tuple[Plan, list[str]]:
    """The plan for pictures with these headers, and what the user should know of it."""
    size, notes = _choose_size(_sizes(headers), config)
    total, colour = headers.total(), _times(headers, lambda h: not h.grey)
    mode: Mode = config.mode if config.mode != "auto" else "RGB" if colour else "L"
    deep, moving = _times(headers, lambda h: h.deep), _times(headers, lambda h: h.frames)
    plan = Plan(size, mode, config.fit, config.background, _bits(config, all_deep=deep == total), config.window)
    if mode == "L" and colour:
        notes.append(f"{colour:,} colour pictures become grey")
    if mode != "L" and colour < total:
        notes.append(f"{total - colour:,} grey pictures become {mode}")
    notes += _alpha_note(_times(headers, lambda h: h.alpha), plan)
    if plan.bits == 8:
        notes += [f"{deep:,} pictures of 16 bits are scaled to 8"] if deep else []
    else:
        notes += [f"{total - deep:,} pictures of 8 bits are scaled to 16"] if deep < total else []
    notes += [f"{moving:,} pictures of several frames give the first"] if moving else []
    return plan, notes


def _bits(config: DataConfig, *, all_deep: bool) -> Bits:
    if config.bits == "auto":
        return 16 if all_deep else 8
    return config.bits


def _sizes(headers: Headers) -> Counter[tuple[int, int]]:
    sizes: Counter[tuple[int, int]] = Counter()
    for header, times in headers.items():
        sizes[header.height, header.width] += times
    return sizes


def _times(headers: Headers, test: Callable[[Header], bool]) -> int:
    return sum(times for header, times in headers.items() if test(header))


def plan_raw(source: RawSource, config: DataConfig) -> tuple[Plan, list[str]]:
    """The plan for pictures that lie there as one array."""
    count, height, width, channels = source.images.shape
    size, notes = _choose_size(Counter({(height, width): count}), config)
    mode: Mode = config.mode if config.mode != "auto" else "L" if channels == 1 else "RGB"
    deep = bits_of(source.images) == 16
    plan = Plan(size, mode, config.fit, config.background, _bits(config, all_deep=deep))
    if deep and plan.bits == 8:
        notes.append("pictures of 16 bits are scaled to 8")
    if mode == "L" and channels > 1:
        notes.append("colour pictures become grey")
    if mode != "L" and channels == 1:
        notes.append(f"grey pictures become {mode}")
    return plan, notes + _alpha_note(count if channels == 4 else 0, plan)


def _alpha_note(transparent: int, plan: Plan) -> list[str]:
    if not transparent or plan.mode == "RGBA":
        return []
    return [f"{transparent:,} pictures with alpha are composited on {plan.background} (mode RGBA keeps it)"]


def _choose_size(sizes: Counter[tuple[int, int]], config: DataConfig) -> tuple[tuple[int, int], list[str]]:
    total = sizes.total()
    if config.size is not None:
        fitted = total - sizes[config.size]
        shape = f"{config.size[0]} x {config.size[1]}"
        return config.size, [f"{fitted:,} pictures are fitted to {shape} (height x width) by {config.fit}"] * bool(
            fitted
        )
    common, times = sizes.most_common(1)[0]
    agree = times >= _AGREE * total
    native = common if agree else (_median(sizes, 0), _median(sizes, 1))
    size = _capped(native)
    how = f"fitted to {size[0]} x {size[1]} (height x width) by {config.fit}; give size to choose"
    if agree and size == native:
        return size, [f"{total - times:,} pictures of other sizes are {how}"] if times < total else []
    if agree:
        return size, [f"pictures of {native[0]} x {native[1]} are {how}"]
    return size, [f"pictures of {len(sizes):,} sizes are {how}"]


def _median(sizes: Counter[tuple[int, int]], axis: int) -> int:
    """The median of one side, rounded to a multiple of 8."""
    sides = sorted((size[axis], times) for size, times in sizes.items())
    half, seen = sizes.total() / 2, 0
    for side, times in sides:
        seen += times
        if seen >= half:
            return max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE)
    return sides[-1][0]


def _capped(size: tuple[int, int]) -> tuple[int, int]:
    """The size, scaled down to multiples of 8 if its longer side is beyond what a small machine trains on."""
    longest = max(size)
    if longest <= AUTO_LONGEST:
        return size
    height, width = (max(_MULTIPLE, round(s * AUTO_LONGEST / longest / _MULTIPLE) * _MULTIPLE) for s in size)
    return height, width
