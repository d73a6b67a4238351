"""Folders and zip archives, read file by file. Nothing is ever unpacked to disk."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from limner.data.sources import MAX_FILE, Entry, PictureError, Reader
from limner.errors import UserError

_LOCAL = struct.Struct("<4s22xHH")  # local file header: signature, ..., lengths of the name and of the extra field
_LOCAL_SLACK = 30 + 512  # the extra field here may differ from the directory's; it is rarely longer than this
_END = struct.Struct("<4sHHHHIIH")
_CENTRAL = struct.Struct("<4s4xHH4xIIIHHH8xI")
_ENCRYPTED, _UTF8 = 1, 0x800
_EDGE = 2**16


def edges(path: Path) -> str:
    """SHA-256 of the first and the last bytes of a file; an archive's directory lies at its end."""
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256(file.read(_EDGE))
            file.seek(max(os.fstat(file.fileno()).st_size - _EDGE, 0))
            digest.update(file.read(_EDGE))
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}") from error
    return digest.hexdigest()


@dataclass(frozen=True)
class FolderStore:
    """All files below ``root``, hidden ones left out; links to folders are not followed."""

    root: Path

    def entries(self) -> list[Entry]:
        try:
            return list(_walk(self.root, ""))
        except OSError as error:
            raise UserError(f"cannot read the folder '{self.root}': {error.strerror}") from error

    def reader(self) -> Reader:
        return _FolderReader(self.root)


def _walk(folder: Path, prefix: str) -> Iterator[Entry]:
    with os.scandir(folder) as found:
        for item in sorted(found, key=lambda item: item.name):
            if item.name.startswith("."):
                continue
            if item.is_dir(follow_symlinks=False):
                yield from _walk(folder / item.name, f"{prefix}{item.name}/")
            else:
                yield _file_entry(item, prefix + item.name)


def _file_entry(item: os.DirEntry[str], name: str) -> Entry:
    try:
        stat = item.stat()
    except OSError:  # a dangling link: listed, and skipped with its reason when it is read
        return Entry(name, 0)
    return Entry(name, stat.st_size, offset=stat.st_mtime_ns)


class _FolderReader:
    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, entry: Entry) -> BinaryIO:
        path = self._root / entry.name
        try:
            if not path.is_file():  # opening a named pipe would wait for ever
                raise PictureError("not a regular file")
            if path.stat().st_size > MAX_FILE:
                raise PictureError(f"larger than {MAX_FILE >> 20} MiB")
            return path.open("rb")
        except OSError as error:
            raise PictureError(f"cannot be read: {error.strerror}") from error

    def head(self, entry: Entry, count: int) -> bytes:
        try:
            with self.open(entry) as file:
                return file.read(count)
        except (OSError, PictureError):
            return b""

    def read(self, entry: Entry) -> bytes:
        with self.open(entry) as file:
            try:
                return file.read(MAX_FILE)
            except OSError as error:
                raise PictureError(f"cannot be read: {error.strerror}") from error

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class ZipStore:
    """The files of a zip archive, read at their offsets: the central directory is parsed once."""

    path: Path

    def entries(self) -> list[Entry]:
        try:
            with self.path.open("rb") as file:
                found = _plain_directory(file)
            if found is None:
                with zipfile.ZipFile(self.path) as archive:
                    found = [_zip_entry(info) for info in archive.infolist()]
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
            raise UserError(f"'{self.path}' cannot be read as a zip archive: {error}") from error
        return [entry for entry in found if not entry.name.endswith("/") and not hidden(entry.name)]

    def reader(self) -> Reader:
        return _ZipReader(self.path)


def _zip_entry(info: zipfile.ZipInfo) -> Entry:
    return Entry(
        info.filename,
        info.file_size,
        info.header_offset,
        info.compress_size,
        info.compress_type,
        info.CRC,
        info.flag_bits,
    )


def _plain_directory(file: BinaryIO) -> list[Entry] | None:
    """The central directory of an archive without comment, ZIP64 or spanning; None if it is not that plain.

    APPNOTE 6.3 of PKWARE, sections 4.3.12 and 4.3.16. ``zipfile`` takes four times as long over many small files.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _END.size, 0))
    tail = file.read()
    if len(tail) < _END.size or not tail.startswith(b"PK\5\6"):
        return None
    _, disk, first, here, count, length, start, comment = _END.unpack(tail)
    whole = start + length + _END.size == size
    if not whole or (disk, first, comment) != (0, 0, 0) or here != count or count == 0xFFFF:
        return None
    file.seek(start)
    directory, at, found = file.read(length), 0, []
    while at < length:
        signature, flags, method, crc, packed, plain, name, extra, remark, offset = _CENTRAL.unpack_from(directory, at)
        if signature != b"PK\1\2" or 0xFFFFFFFF in (packed, plain, offset):
            return None
        at += _CENTRAL.size
        text = directory[at : at + name].decode("utf-8" if flags & _UTF8 else "cp437")
        found.append(Entry(text, plain, offset, packed, method, crc, flags))
        at += name + extra + remark
    return found if len(found) == count else None


def hidden(name: str) -> bool:
    """Whether a file of an archive is one that folders do not show."""
    if name.startswith("__MACOSX/"):
        return True
    if not name.startswith(".") and "/." not in name:
        return False
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


class _ZipReader:
    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise UserError(f"cannot read '{path}': {error.strerror}") from error

    def head(self, entry: Entry, count: int) -> bytes:
        if entry.flags & _ENCRYPTED:
            return b""
        try:
            return _unpack(self._packed(entry, count), entry.method, count)
        except PictureError:
            return b""

    def open(self, entry: Entry) -> BinaryIO:
        return io.BytesIO(self.read(entry))

    def read(self, entry: Entry) -> bytes:
        """The unpacked bytes; never more than the directory promises, and never more than ``MAX_FILE``."""
        if entry.flags & _ENCRYPTED:
            raise PictureError("encrypted")
        if max(entry.size, entry.packed) > MAX_FILE:
            raise PictureError(f"larger than {MAX_FILE >> 20} MiB")
        data = _unpack(self._packed(entry, entry.packed), entry.method, entry.size + 1)
        if len(data) != entry.size:
            raise PictureError("does not unpack to the size that the archive states")
        if zlib.crc32(data) != entry.crc:
            raise PictureError("its checksum does not match the archive's")
        return data

    def _packed(self, entry: Entry, most: int) -> bytes:
        length = min(entry.packed, most)
        data = self._at(entry.offset, _LOCAL_SLACK + length)
        if len(data) < _LOCAL.size or not data.startswith(b"PK\3\4"):
            raise PictureError("its place in the archive is damaged")
        _, name, extra = _LOCAL.unpack_from(data)
        start = 30 + name + extra
        whole = start + length <= len(data)
        return data[start : start + length] if whole else self._at(entry.offset + start, length)

    def _at(self, offset: int, count: int) -> bytes:
        try:
            self._file.seek(offset)
            return self._file.read(count)
        except (OSError, ValueError) as error:
            raise PictureError(f"cannot be read: {error}") from error

    def close(self) -> None:
        self._file.close()


def _unpack(packed: bytes, method: int, most: int) -> bytes:
    if method == zipfile.ZIP_STORED:
        return packed
    if method == zipfile.ZIP_DEFLATED:
        try:
            return zlib.decompressobj(-15).decompress(packed, most)
        except zlib.error as error:
            raise PictureError("its compressed data is damaged") from error
    raise PictureError(f"packed with method {method}; only stored and deflated files are read")
