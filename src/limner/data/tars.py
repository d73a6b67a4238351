"""Tar archives, one or many (shards), read file by file at their offsets. Nothing is ever unpacked to disk."""

from __future__ import annotations

import glob
import io
import math
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import BinaryIO

from limner.data.sources import MAX_FILE, Entry, PictureError, Reader
from limner.data.stores import hidden
from limner.errors import UserError
from limner.files import expanded

SUFFIX = ".tar"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1_000_000
_IRREGULAR = 1
_BLOCK = 2**20


def is_pattern(name: str) -> bool:
    """Whether this names shards: "set-{0000..0012}.tar" or "set-*.tar"."""
    return name.endswith(SUFFIX) and (bool(_RANGE.search(name)) or glob.has_magic(name))


def expand(name: str) -> tuple[Path, ...]:
    """The shards that a pattern names, in order. Raises UserError if there is none, or one of a range is missing."""
    parts = _RANGE.split(str(expanded(name)))
    ranges = [_numbers(low, high, name) for low, high in zip(parts[1::3], parts[2::3], strict=True)]
    if math.prod(map(len, ranges)) > _MOST_SHARDS:
        raise UserError(f"'{name}' names more than {_MOST_SHARDS:,} shards")
    names = [
        "".join(text + number for text, number in zip(parts[::3], (*chosen, ""), strict=True))
        for chosen in product(*ranges)
    ]
    paths = tuple(Path(one) for text in names for one in (sorted(glob.glob(text)) if glob.has_magic(text) else [text]))
    for path in paths:
        if not path.is_file():
            raise UserError(f"'{name}' names {path.name}, and there is no such file in {path.parent}")
    if not paths:
        raise UserError(f"no data at '{name}': no file has such a name")
    return paths


def _numbers(low: str, high: str, name: str) -> list[str]:
    first, last = int(low), int(high)
    if not first <= last <= first + _MOST_SHARDS:
        raise UserError(f"{{{low}..{high}}} in '{name}' is not a range of shards")
    return [str(number).zfill(len(low)) for number in range(first, last + 1)]


@dataclass(frozen=True)
class TarStore:
    """The files of tar archives; an entry's ``method`` is the number of its archive.

    Where there are several, a file's name begins with that of its archive.
    """

    paths: tuple[Path, ...]

    def entries(self) -> list[Entry]:
        return [entry for number in range(len(self.paths)) for entry in self.members(number)]

    def members(self, number: int) -> Iterator[Entry]:
        """The files of one archive as they lie, hidden ones left out. Raises UserError if it cannot be read."""
        path = self.paths[number]
        prefix = f"{path.name}/" if len(self.paths) > 1 else ""
        try:
            with tarfile.open(path, "r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # else it would remember every one
                    if member.size < 0:
                        raise UserError(f"'{path}' is damaged: a file of it has a negative size")
                    if member.isdir() or hidden(member.name):
                        continue
                    regular = member.isreg() and not member.issparse()
                    flags = 0 if regular else _IRREGULAR
                    yield Entry(prefix + member.name, member.size, member.offset_data, member.size, number, 0, flags)
                end = archive.offset  # where a next file would begin
            _check_end(path, end)
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"'{path}' cannot be read as a tar archive that is not compressed: {error}") from error
        except OSError as error:
            raise UserError(f"cannot read '{path}': {error.strerror or error}") from error

    def reader(self) -> Reader:
        return _TarReader(self.paths)


def _check_end(path: Path, end: int) -> None:
    """Raises UserError if anything but zeros follows the last file: the standard library stops there without a word."""
    with path.open("rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise UserError(f"'{path}' is damaged at byte {end:,}, where its next file should begin")
        while block := file.read(_BLOCK):
            if block.strip(b"\0"):
                raise UserError(
                    f"'{path}' goes on behind its end at byte {end:,}: it is damaged, or archives were put together "
                    "with cat; name those apart, as shards"
                )


class _TarReader:
    """Keeps one archive open at a time."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths
        self._number = -1
        self._file: BinaryIO = io.BytesIO()

    def head(self, entry: Entry, count: int) -> bytes:
        try:
            return self._read(entry, min(count, entry.size))
        except PictureError:
            return b""

    def open(self, entry: Entry) -> BinaryIO:
        return io.BytesIO(self.read(entry))

    def read(self, entry: Entry) -> bytes:
        if entry.size > MAX_FILE:
            raise PictureError(f"larger than {MAX_FILE >> 20} MiB")
        data = self._read(entry, entry.size)
        if len(data) != entry.size:
            raise PictureError("the archive ends before it does")
        return data

    def _read(self, entry: Entry, count: int) -> bytes:
        if entry.flags & _IRREGULAR:
            raise PictureError("not a regular file; links in an archive are not followed")
        try:
            if entry.method != self._number:
                self._file.close()
                self._number = -1
                self._file = self._paths[entry.method].open("rb", buffering=0)
                self._number = entry.method
            self._file.seek(entry.offset)
            return self._file.read(count)
        except (OSError, ValueError) as error:
            raise PictureError(f"cannot be read: {error}") from error

    def close(self) -> None:
        self._file.close()
