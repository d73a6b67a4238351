"""Pictures of pictures: grids, and files that are whole or not there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from limner.data import png
from limner.data.levels import Pixels, with_bits
from limner.files import write_whole

if TYPE_CHECKING:
    from PIL.Image import Image

#: A cell of a grid is enlarged, by a whole factor, to at least so many pixels.
_CELL = 56


def grid(images: Pixels, *, columns: int | None = None, scale: int | None = None, gap: int = 2) -> Image:
    """Pictures (N, H, W, C) in rows, on white, with ``gap`` pixels between them; near-square by default.

    A grid is for looking at: it has 8 bits, whatever the pictures have.

    Args:
        images: uint8 or uint16, with 1, 3 or 4 channels; the grid has the same mode.
        columns: pictures in a row.
        scale: the whole factor that pictures are enlarged by, without smoothing; None makes small ones visible.
        gap: between pictures and around the grid, in pixels of the result.
    """
    from PIL import Image as PILImage

    n, height, width, channels = images.shape
    across = columns or max(1, math.ceil(math.sqrt(n)))
    down = math.ceil(n / across)
    factor = max(1, math.ceil(_CELL / max(height, width))) if scale is None else scale
    high, wide = height * factor, width * factor
    canvas = np.full((down * (high + gap) + gap, across * (wide + gap) + gap, channels), 255, np.uint8)
    large = with_bits(images, 8).repeat(factor, axis=1).repeat(factor, axis=2)
    for i, picture in enumerate(large):
        top, left = gap + i // across * (high + gap), gap + i % across * (wide + gap)
        canvas[top : top + high, left : left + wide] = picture
    return PILImage.fromarray(canvas[..., 0] if channels == 1 else canvas)


def save_png(image: Image, path: Path) -> None:
    """Save as PNG; the file appears whole.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    write_whole(path, lambda temporary: image.save(temporary, format="PNG"))


def save_picture(pixels: Pixels, path: Path) -> None:
    """Save one picture (H, W, C) as PNG, uint8 with 8 bits a channel and uint16 with 16; the file appears whole.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    if pixels.dtype == np.uint8:
        save_png(grid(pixels[None], scale=1, gap=0), path)
    else:
        data = png.sixteen_bits(pixels.astype(np.uint16, copy=False))
        write_whole(path, lambda temporary: _fill(temporary, data))


def _fill(path: Path, data: bytes) -> None:
    path.write_bytes(data)
