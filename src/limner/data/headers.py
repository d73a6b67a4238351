"""What a picture file says of itself before it is decoded, and the bound on what is decoded at all."""

from __future__ import annotations

from typing import NamedTuple

from limner.data.sources import PictureError

MAX_PIXELS = 2**26


class Header(NamedTuple):
    """What a file says of its picture before it is decoded; the size is that after its orientation is applied.

    ``deep``: it has more than 8 bits, and they can be read. ``frames``: only the first of several pictures is taken.
    """

    height: int
    width: int
    grey: bool
    alpha: bool
    deep: bool = False
    frames: bool = False


def bound(width: int, height: int) -> None:
    """Raises :class:`PictureError` for a picture so large that it must be a mistake, or meant to fill the memory."""
    if width * height > MAX_PIXELS:
        raise PictureError(f"{width} x {height} pixels, above the bound of {MAX_PIXELS:,} (a decompression bomb?)")


def reason(error: Exception) -> str:
    """One line that says why a file cannot be decoded, from whatever a decoder raised."""
    text = " ".join(str(error).split())[:200]
    return f"damaged: {text}" if text else f"damaged ({type(error).__name__})"
