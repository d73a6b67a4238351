"""Draws scenes of ``builtin:shapes``, antialiased: coverage from signed distances, at two samples a pixel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.data.builtin_options import check_size
from limner.data.shapes_scene import BACKGROUNDS, BOXES, COLOURS, SIZES, Object, Scene

Floats = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]
Distances = npt.NDArray[np.floating[Any]]

SMALLEST, LARGEST = 24, 1024
_SAMPLES = 2
_CHUNK_PIXELS = 1_000_000


def _circle(x: Distances, y: Distances) -> Distances:
    return np.hypot(x, y) - 1


def _square(x: Distances, y: Distances) -> Distances:
    return np.maximum(abs(x), abs(y)) - 0.9


def _triangle(x: Distances, y: Distances) -> Distances:
    # Equilateral, point up, inradius 0.65.
    inward: Distances = np.maximum(y, math.sqrt(3) / 2 * abs(x) - y / 2) - 0.65
    return inward


def _diamond(x: Distances, y: Distances) -> Distances:
    return (abs(x) + abs(y) - 1.2) / math.sqrt(2)


def _cross(x: Distances, y: Distances) -> Distances:
    x, y = abs(x), abs(y)
    bar, post = np.maximum(x - 1.1, y - 0.38), np.maximum(x - 0.38, y - 1.1)
    nearer: Distances = np.minimum(bar, post)
    return nearer


def _ring(x: Distances, y: Distances) -> Distances:
    return abs(np.hypot(x, y) - 0.825) - 0.275


#: Signed distance to each outline, in radii, negative inside.
_DISTANCES: dict[str, Callable[[Distances, Distances], Distances]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "cross": _cross,
    "ring": _ring,
}
_REACH = max(abs(edge) for box in BOXES.values() for edge in box) * max(SIZES.values())


def patch_side(unit: float) -> int:
    """The side in pixels of a patch that holds any object, where the picture's shorter side has ``unit`` pixels."""
    return 2 * math.ceil(_REACH * unit) + 5


def coverage(shape: str, radius: Floats, x: Floats, y: Floats, side: int) -> Floats:
    """How much of each pixel a shape covers, (N, side, side) in [0, 1].

    Args:
        shape: one of SHAPES.
        radius: (N,) pixels.
        x: (N,) pixels from the patch's left edge to the centre of area.
        y: (N,) pixels from the patch's top edge.
        side: of the patch.
    """
    at = (np.arange(side * _SAMPLES, dtype=np.float32) + 0.5) / _SAMPLES
    r = radius.reshape(-1, 1, 1)
    distance = _DISTANCES[shape]((at - x.reshape(-1, 1, 1)) / r, (at[:, None] - y.reshape(-1, 1, 1)) / r)
    fine = np.clip(0.5 - distance * (r * _SAMPLES), 0, 1)
    cover: Floats = fine.reshape(-1, side, _SAMPLES, side, _SAMPLES).mean((2, 4), dtype=np.float32)
    return cover


def draw(scene: Scene, size: tuple[int, int] = (32, 32)) -> Pictures:
    """One scene as (H, W, 3) uint8; see :func:`draw_many`."""
    picture: Pictures = draw_many([scene], size)[0]
    return picture


def draw_many(scenes: Sequence[Scene], size: tuple[int, int] = (32, 32)) -> Pictures:
    """Scenes as pictures (N, H, W, 3) uint8.

    The scene fills the middle square of a picture that is not square. Raises UserError if a side is below 24 or above
    1,024 pixels.
    """
    height, width = check_size("builtin:shapes", size, SMALLEST, LARGEST)
    images = np.empty((len(scenes), height, width, 3), np.uint8)
    chunk = max(1, _CHUNK_PIXELS // (height * width))
    for start in range(0, len(scenes), chunk):
        images[start : start + chunk] = _draw_chunk(scenes[start : start + chunk], size)
    return images


def _draw_chunk(scenes: Sequence[Scene], size: tuple[int, int]) -> Pictures:
    height, width = size
    unit = min(size)
    side = patch_side(unit)
    # A border as wide as a patch, cut off at the end, so that no patch needs clipping.
    canvas = np.empty((len(scenes), height + 2 * side, width + 2 * side, 3), np.float32)
    canvas[:] = np.array([BACKGROUNDS[scene.background] for scene in scenes], np.float32).reshape(-1, 1, 1, 3)
    for shape in _DISTANCES:
        items = [(i, item) for i, scene in enumerate(scenes) for item in scene.objects if item.kind.shape == shape]
        if not items:
            continue
        radius, x, y = _geometry([item for _, item in items], size)
        left, top = np.floor(x - side / 2).astype(int), np.floor(y - side / 2).astype(int)
        cover = coverage(shape, radius, x - left.astype(np.float32), y - top.astype(np.float32), side)[..., None]
        for (i, item), mask, row, column in zip(items, cover, top + side, left + side, strict=True):
            patch = canvas[i, row : row + side, column : column + side]
            patch += mask * (np.array(COLOURS[item.kind.colour], np.float32) - patch)
    inner: Floats = canvas[:, side : side + height, side : side + width]
    pictures: Pictures = np.rint(inner).astype(np.uint8)
    return pictures


def _geometry(items: list[Object], size: tuple[int, int]) -> tuple[Floats, Floats, Floats]:
    """Radius, x and y of objects in pixels."""
    height, width = size
    unit = min(size)
    table = np.array([(SIZES[item.kind.size], item.x, item.y) for item in items], np.float32) * unit
    return table[:, 0], table[:, 1] + (width - unit) / 2, table[:, 2] + (height - unit) / 2
