"""Pixel values: whole numbers of 8 or 16 bits at the edges, float32 in [-1, 1] inside, exactly there and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8 | np.uint16]
Deep = npt.NDArray[np.uint16]

#: What pictures of so many bits are kept as, on any machine.
DTYPES: dict[int, np.dtype[np.uint8 | np.uint16]] = {8: np.dtype(np.uint8), 16: np.dtype("<u2")}
_STEP = 257  # of 16 bits to one of 8: 65,535 / 255


def bits_of(pixels: Pixels) -> int:
    """8 or 16."""
    return 8 * pixels.dtype.itemsize


def with_bits(pixels: Pixels, bits: int) -> Pixels:
    """The same pictures with 8 or 16 bits: 8 become 16 without loss, 16 are rounded to 8."""
    if bits_of(pixels) == bits:
        return pixels
    wide = pixels.astype(np.uint32)
    return (wide * _STEP if bits == 16 else (wide + _STEP // 2) // _STEP).astype(DTYPES[bits])


def to_float(pixels: Pixels) -> npt.NDArray[np.float32]:
    """0 to 255, or to 65,535, onto [-1, 1]; both ends are met exactly. No torch threads to wait for."""
    half = np.iinfo(pixels.dtype).max / 2
    values = pixels.astype(np.float32)
    np.subtract(values, np.float32(half), out=values)
    return np.multiply(values, np.float32(1 / half), out=values)
