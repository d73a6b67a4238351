"""How large compressed DICOM pixels say they are, read before anything is decoded.

A decoder believes the compressed stream, not the file's header, so a small file could fill the memory.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

from limner.data.sources import PictureError

if TYPE_CHECKING:
    from pydicom import Dataset

_RLE = "1.2.840.10008.1.2.5"
_RLE_HEADER = struct.Struct("<16I")
_J2K = b"\xff\x4f\xff\x51"  # start of codestream, then SIZ (ISO 15444-1, annex A)
_J2K_SIZE = struct.Struct(">8xIIII")
_JPEG_SIZE = struct.Struct(">HBHH")
_MARKERS_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}  # JPEG's (ITU T.81, table B.1) and JPEG-LS's


def check_coded(dataset: Dataset, rows: int, columns: int, frames: int) -> None:
    """Raises :class:`PictureError` if the first frame is compressed and would not become rows x columns."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    from pydicom.encaps import get_frame

    frame = get_frame(dataset.PixelData, 0, number_of_frames=frames)
    if syntax == _RLE:
        _check_rle(frame, rows * columns)
        return
    size = coded_size(frame)
    if size != (rows, columns):
        found = "of no size" if size is None else f"{size[0]} x {size[1]}"
        raise PictureError(f"damaged: its compressed pixels are {found}, its header says {rows} x {columns}")


def coded_size(frame: bytes) -> tuple[int, int] | None:
    """(height, width) of a JPEG, JPEG-LS or JPEG 2000 stream; None if it says none."""
    start = frame.find(_J2K)
    try:
        if start >= 0:
            right, bottom, left, top = _J2K_SIZE.unpack_from(frame, start)
            return bottom - top, right - left
        return _jpeg_size(frame)
    except struct.error:
        return None


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    at = 0
    while at + 1 < len(frame):
        if frame[at] != 0xFF or frame[at + 1] == 0xFF:  # between segments there may be filling
            at += 1
            continue
        marker = frame[at + 1]
        at += 2
        if marker in _FRAMES:
            _, _, height, width = _JPEG_SIZE.unpack_from(frame, at)
            return height, width
        if marker not in _MARKERS_WITHOUT_LENGTH:
            at += int.from_bytes(frame[at : at + 2], "big")
    return None


def _check_rle(frame: bytes, pixels: int) -> None:
    """Runs and literals of each segment (PS3.5, annex G) must be one byte a pixel, or two for an even end."""
    count, *offsets = _RLE_HEADER.unpack_from(frame)
    if not 1 <= count <= 15:
        raise PictureError(f"damaged: {count} segments of run lengths")
    edges = [*offsets[:count], len(frame)]
    for start, stop in pairwise(edges):
        at, found = start, 0
        while at < stop and found <= pixels + 2:
            head = frame[at]
            found += head + 1 if head < 128 else 257 - head if head > 128 else 0
            at += head + 2 if head < 128 else 2 if head > 128 else 1
        if found > pixels + 2:
            raise PictureError("damaged: its run lengths are longer than the picture")
