"""One picture file to pixels: by its content, within bounds, in a stated mode and size.

Only formats that Pillow decodes in its own process are tried (no PostScript), and what they raise, whatever it is,
becomes a :class:`PictureError` with a reason. DICOM files are told by their content too, and read by pydicom.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from limner.contracts import CHANNELS
from limner.data import dicom, png
from limner.data.config import Plan
from limner.data.deep import fitted, is_deep, is_grey_alpha, lifted, placed, read
from limner.data.fitting import has_alpha, to_array
from limner.data.headers import MAX_PIXELS, Header, bound, reason
from limner.data.levels import DTYPES, Pixels
from limner.data.sources import Entry, PictureError, Reader
from limner.errors import UserError

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "ICO", "JPEG2000", "AVIF", "QOI")
_GREY = frozenset(("1", "L", "LA", "La", "I", "F"))
_HEAD, _START = 1024, 64
_ORIENTATION = 0x0112


@contextmanager
def _with_a_reason() -> Iterator[None]:
    """Whatever a decoder raises becomes a :class:`PictureError`, but for what the user can put right."""
    try:
        yield
    except (PictureError, UserError):
        raise
    except Exception as error:
        raise PictureError(_reason(error)) from error


@_with_a_reason()
def read_header(reader: Reader, entry: Entry) -> Header:
    """What one file says, reading as little as its format allows. Raises :class:`PictureError`."""
    head = reader.head(entry, _HEAD)
    plain = png.header(head)
    if plain is not None:
        bound(plain.width, plain.height)
        return _plain_header(plain)
    with reader.open(entry) as file:
        if dicom.matches(head):
            return dicom.header(file)
        start = file.read(_START)
        if not start:
            raise PictureError("empty file")
        file.seek(0)
        with _open(file) as image:
            return _header(image, start)


class Decoder:
    """Decodes many pictures by one plan into one array; plain ones that need no change are saved up and done at once.

    Attributes:
        pixels: (capacity, H, W, C) uint8 or uint16; the first ``len(headers)`` are good after :meth:`finish`.
        headers: of the good pictures.
    """

    def __init__(self, plan: Plan, capacity: int) -> None:
        self.pixels: Pixels = np.empty((capacity, *plan.size, CHANNELS[plan.mode]), DTYPES[plan.bits])
        self.headers: list[Header] = []
        self._plan = plan
        self._kind = png.Plain(plan.size[1], plan.size[0], plan.mode)
        self._kind_header = _plain_header(self._kind)
        self._waiting: dict[int, bytes] = {}

    def add(self, data: bytes) -> None:
        """Take one picture file. Raises :class:`PictureError`; then it takes no place."""
        row = len(self.headers)
        lines = png.lines(data, self._kind) if self._plan.bits == 8 else None
        if lines is None:
            self.pixels[row], header = decode(data, self._plan)
        else:
            self._waiting[row], header = lines, self._kind_header
        self.headers.append(header)

    def finish(self) -> Pixels:
        """The good pictures, in the order in which they were added."""
        if self._waiting:
            self.pixels[list(self._waiting)] = png.unfilter(list(self._waiting.values()), self._kind)
            self._waiting.clear()
        return self.pixels[: len(self.headers)]


@_with_a_reason()
def decode(data: bytes, plan: Plan) -> tuple[Pixels, Header]:
    """A picture file as (H, W, C) of the plan's size, mode and bits, and its header. Raises :class:`PictureError`."""
    if not data:
        raise PictureError("empty file")
    if dicom.matches(data):
        pixels, header = dicom.read(data, plan.window)
        return placed(pixels, plan), header
    with _open(io.BytesIO(data)) as opened:
        header = _header(opened, data[:_START])
        if header.deep and plan.bits == 16:
            return fitted(read(opened, lambda: _open(io.BytesIO(data))), plan), header
        if opened.format == "JPEG":
            # The decoder can halve a large photo while it reads; twice the wanted size is left for the resampler.
            opened.draft(None, (2 * plan.size[1], 2 * plan.size[0]))
        opened.load()
        upright = ImageOps.exif_transpose(opened)
        return to_array(upright, plan) if plan.bits == 8 else lifted(upright, plan), header


@lru_cache(maxsize=256)
def _plain_header(plain: png.Plain) -> Header:
    return Header(plain.height, plain.width, plain.mode in _GREY, "A" in plain.mode)


def _header(image: ImageFile, start: bytes) -> Header:
    width, height = image.size
    if _turned(image):
        width, height = height, width
    return Header(height, width, _is_grey(image), has_alpha(image), is_deep(image, start), _moves(image))


def _open(file: BinaryIO) -> ImageFile:
    try:
        image = Image.open(file, formats=_formats())
    except UnidentifiedImageError:
        raise PictureError(_unknown(file)) from None
    bound(*image.size)
    return image


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _unknown(file: BinaryIO) -> str:
    file.seek(0)
    start = file.read(_START)
    text = all(9 <= byte < 127 for byte in start)
    return "text, not a picture" if text else "not a picture in a format that is read, or its header is damaged"


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the bound of {MAX_PIXELS:,} pixels (a decompression bomb?)"
    return reason(error)


def _turned(image: ImageFile) -> bool:
    # A PNG may hold its orientation after the pixels; reading it would mean to decode the picture.
    if image.format == "PNG" and "exif" not in image.info:
        return False
    try:
        return image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception:
        return False  # damaged metadata does not make a bad picture


def _is_grey(image: ImageFile) -> bool:
    if image.mode in ("P", "PA") and image.palette is not None:
        packing, palette = image.palette.getdata()
        planar = packing.endswith(";L")  # all red, then all green, then all blue
        width = 3 if planar else len(packing)
        values = np.frombuffer(bytes(palette), np.uint8)[: len(palette) // width * width]
        colours = values.reshape(3, -1).T if planar else values.reshape(-1, width)[:, :3]
        return bool((colours == colours[:, :1]).all())
    return image.mode in _GREY or image.mode.startswith("I;16") or is_grey_alpha(image)


def _moves(image: ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:
        return False  # the first frame may be whole all the same
