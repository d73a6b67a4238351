"""A decoded picture in the mode and size of a plan: where it is cut or placed, and Pillow's way for 8 bits."""

from __future__ import annotations

import numpy as np
from PIL import Image

from limner.contracts import CHANNELS
from limner.data.config import Plan
from limner.data.levels import Pixels, with_bits
from limner.data.sources import PictureError

_ALPHA = frozenset(("LA", "La", "RGBA", "RGBa", "PA"))


def to_array(image: Image.Image, plan: Plan) -> Pixels:
    """A decoded picture in the plan's mode and size, (H, W, C) uint8."""
    if image.mode != plan.mode or "transparency" in image.info:
        image = in_mode(image, plan)
    if image.size != (plan.size[1], plan.size[0]):
        image = _fit(image, plan)
    return np.frombuffer(image.tobytes(), np.uint8).reshape(*plan.size, CHANNELS[plan.mode])


def has_alpha(image: Image.Image) -> bool:
    return image.mode in _ALPHA or "transparency" in image.info


def in_mode(image: Image.Image, plan: Plan) -> Image.Image:
    """The picture in the plan's mode, 8 bits a channel. Raises :class:`PictureError` if its values have no bounds."""
    if image.mode == "F":
        raise PictureError("floating-point pixels; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = Image.fromarray(with_bits(sixteen(image), 8))
    elif image.mode in ("P", "PA", "1"):
        image = image.convert("L" if image.mode == "1" else "RGBA" if has_alpha(image) else "RGB")
    if plan.mode == "RGBA":
        return image.convert("RGBA")
    if has_alpha(image):
        under = Image.new("RGBA", image.size, (*plan.background, 255))
        image = Image.alpha_composite(under, image.convert("RGBA"))
    # Pillow's luma weights (ITU-R BT.601) sum to one exactly, so grey survives a way through RGB unchanged.
    return image.convert(plan.mode) if image.mode != plan.mode else image


def sixteen(image: Image.Image) -> Pixels:
    """The values (H, W) of a grey picture of Pillow's modes I and I;16."""
    values = np.asarray(image)
    if int(values.min()) < 0 or int(values.max()) > 0xFFFF:
        raise PictureError("32-bit pixels; save it with 8 or 16 bits")
    return values.astype(np.uint16)


def crop_box(wide: int, high: int, plan: Plan) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of what a picture of this size shows: all of it, or with "crop" its centre."""
    if plan.fit != "crop":
        return (0.0, 0.0, float(wide), float(high))
    height, width = plan.size
    scale = min(wide / width, high / height)
    left, top = (wide - width * scale) / 2, (high - height * scale) / 2
    return (max(left, 0.0), max(top, 0.0), min(left + width * scale, wide), min(top + height * scale, high))


def padded(wide: int, high: int, plan: Plan) -> tuple[int, int, int, int]:
    """(left, top, width, height) of where a picture of this size stands when it is padded."""
    height, width = plan.size
    scale = min(width / wide, height / high)
    inner = (min(max(round(wide * scale), 1), width), min(max(round(high * scale), 1), height))
    return ((width - inner[0]) // 2, (height - inner[1]) // 2, *inner)


def _fit(image: Image.Image, plan: Plan) -> Image.Image:
    height, width = plan.size
    if plan.fit == "pad":
        return _pad(image, plan)
    box = crop_box(*image.size, plan)
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _pad(image: Image.Image, plan: Plan) -> Image.Image:
    height, width = plan.size
    left, top, *inner = padded(*image.size, plan)
    colour = Image.new("RGB", (1, 1), plan.background).convert(plan.mode)
    if plan.mode == "RGBA":
        colour.putalpha(0)
    frame = colour.resize((width, height))
    size = (inner[0], inner[1])
    small = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    frame.paste(small, (left, top))
    return frame
