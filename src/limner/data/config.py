"""What a user may choose about the data, and the report on what became of it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from limner.contracts import ImageSpec, Mode
from limner.errors import UserError, nearest

Fit = Literal["crop", "pad", "stretch"]
Bits = Literal[8, 16]
LARGEST_SIDE = 8192
_MOST_BUCKETS = 64


@dataclass(frozen=True)
class DataConfig:
    """How a source becomes pictures. All of it but ``stream`` is part of the cache's key.

    Attributes:
        source: a folder, a .zip, a .tar or shards of it in WebDataset's layout ("set-{0000..0012}.tar"), an .npz, an
            idx .gz, a DICOM file, a set of the Hugging Face hub or in its formats ("hf:owner/name:config@split",
            "hf:./folder"), a catalogue name ("mnist") or a built-in set ("builtin:glyphs", with options
            "builtin:glyphs?split=heldout").
        size: (height, width) in pixels. None: that of the pictures, if 95 % of them agree, else the median; never more
            than 256 on the longer side. The report says what was chosen.
        mode: "auto" keeps grey pictures grey, takes RGB as soon as one picture has colour, and composites
            transparent pictures on ``background``; "RGBA" keeps their alpha.
        fit: how a picture of another shape comes to ``size``: "crop" its centre, "pad" with ``background`` or
            "stretch". Always antialiased.
        background: red, green and blue, 0 to 255, under transparent pictures and around padded ones.
        bits: of a channel. "auto" keeps 16 where every picture has them (PNG, TIFF or DICOM of 16 bits), else 8.
        window: which values of grey DICOM pictures are shown: "full" for all that the stored bits can hold, "file" for
            the window that each file names first, or "CENTRE/WIDTH" in the files' units (40/400 for soft tissue in a
            CT).
        buckets: bring pictures of mixed shapes to at most so many sizes, of about as many pixels as ``size`` has and
            with sides that are multiples of 8, and train on batches of one size each; 0 brings all to one size.
        stream: whether .tar shards are decoded while they are trained on, so that they need not fit the disk. "auto":
            where their decoded pictures would take more than half of its free space.
        limit: only so many pictures of the source, chosen by a fixed pseudo-random order; broken ones count.
    """

    source: str
    size: tuple[int, int] | None = None
    mode: Literal["auto", "L", "RGB", "RGBA"] = "auto"
    fit: Fit = "crop"
    background: tuple[int, int, int] = (255, 255, 255)
    limit: int | None = None
    bits: Literal["auto", 8, 16] = "auto"
    window: str = "full"
    buckets: int = 0
    stream: Literal["auto", "on", "off"] = "auto"

    def __post_init__(self) -> None:
        if self.mode not in ("auto", *get_args(Mode)):
            raise UserError(f"unknown mode '{self.mode}'{nearest(self.mode, ('auto', *get_args(Mode)))}")
        if self.fit not in get_args(Fit):
            raise UserError(f"unknown fit '{self.fit}'{nearest(self.fit, get_args(Fit))}")
        if self.size is not None and not (
            len(self.size) == 2 and all(isinstance(side, int) and 1 <= side <= LARGEST_SIDE for side in self.size)
        ):
            raise UserError(f"size {self.size} is not (height, width) in 1 to {LARGEST_SIDE} pixels")
        if len(self.background) != 3 or not all(0 <= value <= 255 for value in self.background):
            raise UserError(f"background {self.background} is not (red, green, blue) in 0 to 255")
        if self.bits not in ("auto", *get_args(Bits)):
            raise UserError(f"bits is {self.bits}; give auto, 8 or 16")
        if self.window not in ("full", "file") and not _is_window(self.window):
            raise UserError(f"window '{self.window}' is not full, file or CENTRE/WIDTH, such as 40/400")
        if not 0 <= self.buckets <= _MOST_BUCKETS:
            raise UserError(f"buckets is {self.buckets}; give 0 to {_MOST_BUCKETS}")
        if self.buckets and self.stream == "on":
            raise UserError("a stream has one size; leave buckets or stream out")
        if self.stream not in ("auto", "on", "off"):
            raise UserError(f"stream is {self.stream}; give auto, on or off")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit {self.limit} leaves no picture; give 1 or more")

    def like(self, spec: ImageSpec, source: str) -> DataConfig:
        """These settings for another source, all of whose pictures are to become of this kind."""
        mode, bits = cast(Mode, spec.mode), cast(Bits, spec.bits)
        return replace(self, source=source, size=spec.size, mode=mode, bits=bits, buckets=0, stream="auto", limit=None)


def _is_window(text: str) -> bool:
    """Whether this is a centre and a width of at least 1."""
    try:
        centre, width = map(float, text.split("/"))
    except ValueError:
        return False
    return math.isfinite(centre) and 1 <= width < math.inf


@dataclass(frozen=True)
class Plan:
    """A :class:`DataConfig` with nothing left open: every picture becomes (H, W, C) of this kind."""

    size: tuple[int, int]
    mode: Mode
    fit: Fit
    background: tuple[int, int, int]
    bits: Bits = 8
    window: str = "full"


@dataclass(frozen=True)
class DataReport:
    """What became of a source's pictures.

    Attributes:
        source: as the user named it.
        used: how many pictures are in the data set.
        skipped: (name, reason) of each picture that is not.
        notes: choices and conversions that a user should know of.
    """

    source: str
    used: int
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    path: str = ""

    def summary(self) -> str:
        """One line: how many pictures are used, how many are skipped, where the reasons are, and the notes."""
        parts = [f"{self.source}: {self.used:,} pictures"]
        if self.skipped:
            where = f" (reasons in {self.path})" if self.path else ""
            parts.append(f"{len(self.skipped):,} skipped, first '{self.skipped[0][0]}': {self.skipped[0][1]}{where}")
        return "; ".join([*parts, *self.notes])

    def write(self, path: Path) -> None:
        """Write the report as JSON, without its own path."""
        content = asdict(replace(self, path=""))
        del content["path"]
        text = json.dumps(content, indent=1, ensure_ascii=False)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")  # names that are not UTF-8

    @staticmethod
    def read(path: Path) -> DataReport:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        skipped = tuple((str(name), str(reason)) for name, reason in content["skipped"])
        return DataReport(content["source"], content["used"], skipped, tuple(content["notes"]), str(path))
