"""One picture file to pixels: by its content, within bounds, in a stated mode and size.

Only formats that Pillow decodes in its own process are tried (no PostScript), and what they raise, whatever it is,
becomes a :class:`PictureError` with a reason.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from limner.contracts import CHANNELS
from limner.data import png
from limner.data.config import Plan
from limner.data.sources import Entry, PictureError, Reader

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 2**26
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "ICO", "JPEG2000", "AVIF", "QOI")
_GREY = frozenset(("1", "L", "LA", "La", "I", "F"))
_ALPHA = frozenset(("LA", "La", "RGBA", "RGBa", "PA"))
_HEAD, _START = 1024, 64
_ORIENTATION = 0x0112


class Header(NamedTuple):
    """What a file says of its picture before it is decoded; the size is that after its orientation is applied."""

    height: int
    width: int
    grey: bool
    alpha: bool
    deep: bool = False
    frames: bool = False


def read_header(reader: Reader, entry: Entry) -> Header:
    """What one file says, reading as little as its format allows. Raises :class:`PictureError`."""
    plain = png.header(reader.head(entry, _HEAD))
    if plain is not None:
        _bound(plain.width, plain.height)
        return _plain_header(plain)
    with reader.open(entry) as file:
        start = file.read(_START)
        if not start:
            raise PictureError("empty file")
        file.seek(0)
        with _open(file) as image:
            return _header(image, start)


class Decoder:
    """Decodes many pictures by one plan into one array; plain ones that need no change are saved up and done at once.

    Attributes:
        pixels: (capacity, H, W, C) uint8; the first ``len(headers)`` are good after :meth:`finish`.
        headers: of the good pictures.
    """

    def __init__(self, plan: Plan, capacity: int) -> None:
        self.pixels: Pixels = np.empty((capacity, *plan.size, CHANNELS[plan.mode]), np.uint8)
        self.headers: list[Header] = []
        self._plan = plan
        self._kind = png.Plain(plan.size[1], plan.size[0], plan.mode)
        self._kind_header = _plain_header(self._kind)
        self._waiting: dict[int, bytes] = {}

    def add(self, data: bytes) -> None:
        """Take one picture file. Raises :class:`PictureError`; then it takes no place."""
        row = len(self.headers)
        lines = png.lines(data, self._kind)
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


def decode(data: bytes, plan: Plan) -> tuple[Pixels, Header]:
    """A picture file as (H, W, C) uint8 of the plan's size and mode, and its header. Raises :class:`PictureError`."""
    if not data:
        raise PictureError("empty file")
    with _open(io.BytesIO(data)) as opened:
        try:
            header = _header(opened, data[:_START])
            if opened.format == "JPEG":
                # The decoder can halve a large photo while it reads; twice the wanted size is left for the resampler.
                opened.draft(None, (2 * plan.size[1], 2 * plan.size[0]))
            opened.load()
            return to_array(ImageOps.exif_transpose(opened), plan), header
        except PictureError:
            raise
        except Exception as error:
            raise PictureError(_reason(error)) from error


@lru_cache(maxsize=256)
def _plain_header(plain: png.Plain) -> Header:
    return Header(plain.height, plain.width, plain.mode in _GREY, plain.mode in _ALPHA)


def _header(image: Image.Image, start: bytes) -> Header:
    width, height = image.size
    if _turned(image):
        width, height = height, width
    return Header(height, width, _is_grey(image), _has_alpha(image), _is_deep(image, start), _moves(image))


def to_array(image: Image.Image, plan: Plan) -> Pixels:
    """A decoded picture in the plan's mode and size, (H, W, C) uint8."""
    if image.mode != plan.mode or "transparency" in image.info:
        image = _in_mode(image, plan)
    if image.size != (plan.size[1], plan.size[0]):
        image = _fit(image, plan)
    return np.frombuffer(image.tobytes(), np.uint8).reshape(*plan.size, CHANNELS[plan.mode])


def _open(file: BinaryIO) -> Image.Image:
    try:
        image = Image.open(file, formats=_formats())
    except UnidentifiedImageError:
        raise PictureError(_unknown(file)) from None
    except Exception as error:
        raise PictureError(_reason(error)) from error
    _bound(*image.size)
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


def _bound(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(f"{width} x {height} pixels, above the bound of {MAX_PIXELS:,} (a decompression bomb?)")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the bound of {MAX_PIXELS:,} pixels (a decompression bomb?)"
    text = " ".join(str(error).split())[:200]
    return f"damaged: {text}" if text else f"damaged ({type(error).__name__})"


def _turned(image: Image.Image) -> bool:
    # A PNG may hold its orientation after the pixels; reading it would mean to decode the picture.
    if image.format == "PNG" and "exif" not in image.info:
        return False
    try:
        return image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception:
        return False  # damaged metadata does not make a bad picture


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA") and image.palette is not None:
        palette = np.frombuffer(image.palette.tobytes(), np.uint8)
        width = len(image.palette.mode)
        colours = palette[: len(palette) // width * width].reshape(-1, width)[:, :3]
        return bool((colours == colours[:, :1]).all())
    return image.mode in _GREY or image.mode.startswith("I;16")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in _ALPHA or "transparency" in image.info


def _is_deep(image: Image.Image, start: bytes) -> bool:
    if image.format == "PNG":
        return start[24:25] == b"\x10"
    return image.mode == "I" or image.mode.startswith("I;16")


def _moves(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:
        return False  # the first frame may be whole all the same


def _in_mode(image: Image.Image, plan: Plan) -> Image.Image:
    if image.mode == "F":
        raise PictureError("floating-point pixels; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    elif image.mode in ("P", "PA", "1"):
        image = image.convert("L" if image.mode == "1" else "RGBA" if _has_alpha(image) else "RGB")
    if plan.mode == "RGBA":
        return image.convert("RGBA")
    if _has_alpha(image):
        under = Image.new("RGBA", image.size, (*plan.background, 255))
        image = Image.alpha_composite(under, image.convert("RGBA"))
    # Pillow's luma weights (ITU-R BT.601) sum to one exactly, so grey survives a way through RGB unchanged.
    return image.convert(plan.mode) if image.mode != plan.mode else image


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise PictureError("32-bit pixels; save it with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _fit(image: Image.Image, plan: Plan) -> Image.Image:
    height, width = plan.size
    wide, high = image.size
    if plan.fit == "pad":
        return _pad(image, plan)
    box = (0.0, 0.0, float(wide), float(high))
    if plan.fit == "crop":
        scale = min(wide / width, high / height)
        left, top = (wide - width * scale) / 2, (high - height * scale) / 2
        box = (max(left, 0.0), max(top, 0.0), min(left + width * scale, wide), min(top + height * scale, high))
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _pad(image: Image.Image, plan: Plan) -> Image.Image:
    height, width = plan.size
    scale = min(width / image.width, height / image.height)
    inner = (min(max(round(image.width * scale), 1), width), min(max(round(image.height * scale), 1), height))
    colour = Image.new("RGB", (1, 1), plan.background).convert(plan.mode)
    if plan.mode == "RGBA":
        colour.putalpha(0)
    frame = colour.resize((width, height))
    small = image if image.size == inner else image.resize(inner, Image.Resampling.LANCZOS, reducing_gap=3.0)
    frame.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return frame
