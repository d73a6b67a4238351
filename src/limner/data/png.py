"""A short way through many plain PNG files: 8 bits, no palette, no interlace, as data sets are made of.

Most of the time of a small picture goes into handling it as a file. Here each file is only unpacked to its filtered
lines; the lines of many pictures are then undone as one tall picture by Pillow's own decoder. Anything unusual or
damaged gives None, and Pillow's general reader decides. Chunks and filters: PNG specification (W3C, third edition),
sections 5, 9 and 11.

Writing is left to Pillow, but for colour of 16 bits, which it cannot write.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

SAMPLES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_MODES = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}
_MAX_SIDE = 256  # larger pictures spend their time in the decompressor, so the general reader costs them nothing
_LAST_FILTER = 4
_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_IHDR, _IHDR_END = struct.Struct(">IIBBBBB"), 33
_CHUNK = struct.Struct(">I4s")
_CRC = struct.Struct(">I")
_IDAT_CRC = zlib.crc32(b"IDAT")  # a chunk's checksum covers its type too
_UNUSUAL = frozenset((b"tRNS", b"eXIf", b"acTL", b"PLTE"))


class Plain(NamedTuple):
    """What the header says: width and height in pixels, and Pillow's mode."""

    width: int
    height: int
    mode: str


def header(head: bytes) -> Plain | None:
    """The header of a plain PNG from its first bytes, if they reach the pixel data; else None."""
    plain = _ihdr(head[:_IHDR_END])
    try:
        return plain if plain is not None and _data(head) is not None else None
    except struct.error:
        return None


def lines(data: bytes, wanted: Plain) -> bytes | None:
    """The filtered lines of a small plain PNG of just this kind, each led by its filter's number; else None."""
    if _ihdr(data[:_IHDR_END]) != wanted or max(wanted.width, wanted.height) > _MAX_SIDE:
        return None
    stride = 1 + wanted.width * SAMPLES[wanted.mode]
    size = wanted.height * stride
    try:
        at = _data(data)
        packed = None if at is None else _join(data, at)
        if packed is None:
            return None
        stream = zlib.decompressobj()
        found = stream.decompress(packed, size + 1)
    except (struct.error, zlib.error):
        return None
    if len(found) != size or not stream.eof or max(found[::stride]) > _LAST_FILTER:
        return None
    return found


def unfilter(pictures: list[bytes], kind: Plain) -> npt.NDArray[np.uint8]:
    """The pixels (N, H, W, C) of the :func:`lines` of N pictures of one kind.

    Between two pictures stands an empty line, so that the first line of each sees nothing above it.
    """
    samples = SAMPLES[kind.mode]
    gap = bytes(1 + kind.width * samples)
    stacked = zlib.compress(gap.join([*pictures, b""]), 0)  # stored: the decoder takes a zlib stream
    size = (kind.width, (kind.height + 1) * len(pictures))
    tall = Image.frombytes(kind.mode, size, stacked, "zip", kind.mode, 0)
    pixels = np.frombuffer(tall.tobytes(), np.uint8).reshape(len(pictures), kind.height + 1, kind.width, samples)
    return pixels[:, :-1]


@lru_cache(maxsize=256)
def _ihdr(data: bytes) -> Plain | None:
    """The header chunk, from the first 33 bytes; the pictures of a set mostly share them."""
    if not data.startswith(_START) or len(data) < _IHDR_END:
        return None
    width, height, depth, colour, method, filters, interlace = _IHDR.unpack_from(data, 16)
    if (depth, method, filters, interlace) != (8, 0, 0, 0) or colour not in _MODES or 0 in (width, height):
        return None
    return Plain(width, height, _MODES[colour])


def _data(data: bytes) -> int | None:
    """Where the first IDAT chunk starts; None if an unusual chunk stands before it."""
    at = _IHDR_END
    while True:
        length, kind = _CHUNK.unpack_from(data, at)
        if kind == b"IDAT":
            return at
        if kind in _UNUSUAL:
            return None
        at += 12 + length


def _join(data: bytes, at: int) -> bytes | None:
    """The compressed pixels of all IDAT chunks; None if a checksum fails."""
    parts: list[bytes] = []
    while True:
        length, kind = _CHUNK.unpack_from(data, at)
        if kind != b"IDAT":
            # What follows the pixels may still change them: an orientation, for one.
            return b"".join(parts) if kind == b"IEND" else None
        start = at + 8
        at = start + length + 4
        part = data[start : at - 4]
        if _CRC.unpack_from(data, at - 4)[0] != zlib.crc32(part, _IDAT_CRC):
            return None
        parts.append(part)


def sixteen_bits(pixels: npt.NDArray[np.uint16]) -> bytes:
    """A PNG of a picture (H, W, C) uint16, C = 1, 3 or 4, each line filtered by the one above it."""
    height, width, samples = pixels.shape
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    lines = np.hstack([np.full((height, 1), 2, np.uint8), rows - above])
    colour = {SAMPLES[mode]: number for number, mode in _MODES.items()}[samples]
    head = _IHDR.pack(width, height, 16, colour, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))
    return _START[:8] + b"".join(
        _CHUNK.pack(len(body), kind) + body + _CRC.pack(zlib.crc32(kind + body)) for kind, body in chunks
    )
