"""Pictures of 16 bits: every level of a PNG or TIFF, in the mode and size of a plan.

Pillow reads grey of 16 bits whole, but of colour the high bytes alone. Both orders of bytes are among those that it
unpacks, so the low bytes are had by having it read the file once more in the order that is not the file's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from limner.data.config import Plan
from limner.data.fitting import crop_box, in_mode, padded, sixteen, to_array
from limner.data.levels import DTYPES, Deep, Pixels, with_bits

Box = tuple[float, float, float, float]

_TOP = 65_535
_LUMA = np.array([19_595, 38_470, 7_471], np.int64)  # ITU-R BT.601 in 65,536ths, as Pillow has it for 8 bits
_GREY_ALPHA = "LA;16B"
_COLOUR = frozenset(("RGB", "RGBX", "RGBA"))
_BITS, _PHOTOMETRIC, _PLANAR = 258, 262, 284  # TIFF tags
_WHITE_IS_ZERO, _SEPARATE = 0, 2


def is_deep(image: ImageFile, start: bytes) -> bool:
    """Whether :func:`read` gives more than 8 bits of this picture; ``start`` are its file's first bytes."""
    if image.format == "PNG":
        return start[24:25] == b"\x10"
    if image.mode == "I" or image.mode.startswith("I;16"):
        return True
    samples, _, order = packing(image).partition(";16")
    known = samples in _COLOUR and order in ("L", "B", "N")
    return image.format == "TIFF" and known and _tag(image, _PLANAR) != _SEPARATE


def packing(image: ImageFile) -> str:
    """How the file packs its pixels, in Pillow's words ("RGB;16B"); "" if they come in several pieces or not at all."""
    words = {tile[3] if isinstance(tile[3], str) else tile[3][0] if tile[3] else "" for tile in image.tile}
    word = words.pop() if len(words) == 1 else ""
    return word if isinstance(word, str) else ""


def is_grey_alpha(image: ImageFile) -> bool:
    """Whether this is a PNG of grey and alpha with 16 bits, which Pillow takes for colour."""
    return image.format == "PNG" and packing(image) == _GREY_ALPHA


def read(image: ImageFile, again: Callable[[], ImageFile]) -> Deep:
    """A picture that :func:`is_deep`, (H, W, C) uint16: C = 1 (grey), 2 (with alpha), 3 (RGB) or 4 (RGBA).

    Args:
        image: opened, not yet loaded.
        again: opens the same file once more.
    """
    if is_grey_alpha(image):
        _unpack_as(image, "RGBA")  # the four bytes of a pixel as they are
        pairs = _loaded(image)
        return _keyed(_join(pairs[..., 0::2], pairs[..., 1::2]), image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _keyed(_grey(image), image)
    samples, _, order = packing(image).partition(";16")
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    with again() as other:
        _unpack_as(other, f"{samples};16{'B' if little else 'L'}")
        return _keyed(_join(_loaded(image), _loaded(other)), image)


def placed(pixels: Pixels, plan: Plan) -> Pixels:
    """A picture (H, W, C) of either depth, C = 1, 3 or 4, with the mode, size and bits of the plan."""
    if plan.bits == 16:
        return fitted(with_bits(pixels, 16).astype(np.uint16, copy=False), plan)
    flat = with_bits(pixels, 8)
    return to_array(Image.fromarray(flat[..., 0] if flat.shape[2] == 1 else flat), plan)


def lifted(image: Image.Image, plan: Plan) -> Pixels:
    """A picture of 8 bits in a plan of 16: made larger or smaller with 16 bits, so that no step is lost on the way."""
    flat = np.asarray(in_mode(image, plan))
    return fitted(with_bits(flat.reshape(*flat.shape[:2], -1), 16).astype(np.uint16, copy=False), plan)


def fitted(pixels: Deep, plan: Plan) -> Pixels:
    """A picture (H, W, C) uint16, as :func:`read` gives it, in the mode and size of the plan."""
    shaped = _in_mode(pixels, plan)
    if shaped.shape[:2] != plan.size and plan.fit == "pad":
        shaped = _pad(shaped, plan)
    elif shaped.shape[:2] != plan.size:
        shaped = _resized(shaped, plan.size, crop_box(*_size(shaped), plan))
    return shaped.astype(DTYPES[16], copy=False)


def _unpack_as(image: ImageFile, word: str) -> None:
    """Have the decoder take the file's bytes for pixels that are packed in this way."""
    image.tile = [
        tile._replace(args=(word, *tile.args[1:]) if isinstance(tile.args, tuple) else word) for tile in image.tile
    ]


def _loaded(image: ImageFile) -> npt.NDArray[np.uint8]:
    image.load()
    return np.asarray(ImageOps.exif_transpose(image))


def _join(high: npt.NDArray[np.uint8], low: npt.NDArray[np.uint8]) -> Deep:
    joined: Deep = high.astype(np.uint16) * np.uint16(256) + low
    return joined


def _grey(image: ImageFile) -> Deep:
    bits, photometric = _tag(image, _BITS), _tag(image, _PHOTOMETRIC)
    image.load()
    values = sixteen(ImageOps.exif_transpose(image)).astype(np.uint16)[..., None]
    if bits == 12:
        values = ((values.astype(np.uint32) * _TOP + 2_047) // 4_095).astype(np.uint16)
    return np.subtract(_TOP, values, dtype=np.uint16) if photometric == _WHITE_IS_ZERO else values


def _tag(image: ImageFile, number: int) -> int | None:
    """A tag of a TIFF, the first of its values."""
    found = getattr(image, "tag_v2", {}).get(number)
    first = found[0] if isinstance(found, tuple) and found else found
    return first if isinstance(first, int) else None


def _keyed(pixels: Deep, image: Image.Image) -> Deep:
    """A PNG may name one colour that is transparent."""
    key = image.info.get("transparency")
    if key is None or isinstance(key, bytes) or pixels.shape[2] in (2, 4):
        return pixels
    clear = (pixels == np.array(key, np.uint16)).all(axis=2, keepdims=True)
    return np.concatenate([pixels, np.where(clear, 0, _TOP).astype(np.uint16)], axis=2)


def _in_mode(pixels: Deep, plan: Plan) -> Deep:
    colours = {1: 1, 2: 1, 3: 3, 4: 3}[pixels.shape[2]]
    colour, alpha = pixels[..., :colours], pixels[..., colours:]
    if plan.mode == "RGBA":
        opaque = np.full((*pixels.shape[:2], 1), _TOP, np.uint16)
        return np.concatenate([_rgb(colour), alpha if alpha.shape[2] else opaque], axis=2)
    if alpha.shape[2]:
        part = alpha.astype(np.int64)
        under = np.array(plan.background, np.int64) * (_TOP // 255)
        colour = ((_rgb(colour) * part + under * (_TOP - part) + _TOP // 2) // _TOP).astype(np.uint16)
    if plan.mode == "RGB":
        return _rgb(colour)
    return colour if colour.shape[2] == 1 else ((colour @ _LUMA + 0x8000) >> 16).astype(np.uint16)[..., None]


def _rgb(colour: Deep) -> Deep:
    return colour if colour.shape[2] == 3 else np.repeat(colour, 3, axis=2)


def _size(pixels: Deep) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


def _resized(pixels: Deep, size: tuple[int, int], box: Box) -> Deep:
    """To (height, width), a channel at a time; colours count as much as they are seen."""
    planes = pixels.astype(np.float32)
    if planes.shape[2] == 4:
        planes[..., :3] *= planes[..., 3:] / _TOP
    scaled = np.stack([_plane(planes[..., i], size, box) for i in range(planes.shape[2])], axis=2)
    if planes.shape[2] == 4:
        scaled[..., :3] /= np.maximum(scaled[..., 3:] / _TOP, 1 / _TOP)
    return np.rint(scaled).clip(0, _TOP).astype(np.uint16)


def _plane(plane: npt.NDArray[np.float32], size: tuple[int, int], box: Box) -> npt.NDArray[np.float32]:
    image = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.LANCZOS, box=box))


def _pad(pixels: Deep, plan: Plan) -> Deep:
    left, top, width, height = padded(*_size(pixels), plan)
    ground = np.array(plan.background, np.uint16).reshape(1, 1, 3) * np.uint16(_TOP // 255)
    frame = np.tile(_in_mode(ground, plan), (*plan.size, 1))
    if plan.mode == "RGBA":
        frame[..., 3] = 0
    whole = (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0]))
    small = pixels if pixels.shape[:2] == (height, width) else _resized(pixels, (height, width), whole)
    frame[top : top + height, left : left + width] = small
    return frame
