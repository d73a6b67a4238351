"""Reads pictures of ``builtin:shapes`` back: the exact judge of text-to-image on this set.

Reading is analysis by synthesis. What differs from the background falls into connected parts; each part is compared,
by least squares, with every shape in every size at quarter-pixel places, sharp and slightly blurred, its colour free;
the nearest wins. A part that nothing resembles is counted as unknown and never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from limner.data.shapes_drawing import SMALLEST, coverage, patch_side
from limner.data.shapes_scene import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    Colour,
    Facts,
    Kind,
    Object,
    Scene,
    parse,
    relation,
)
from limner.errors import UserError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Pictures = npt.NDArray[np.uint8]
_Scalar = TypeVar("_Scalar", bound=np.generic)

_READING_SIDE = 48  # larger pictures are reduced to this: no shape needs more
_CONTRAST = 45.0  # least distance in RGB from the background of a pixel that belongs to an object
_FAINT = 0.35  # the least contrast of an object's pixel, as a share of its neighbours'
_SPECK = 0.004  # parts below this share of the square are noise
_COLOUR_NEAR = 75.0  # the furthest in RGB that a colour may be from the one it is read as
_MISFIT = 0.2  # the largest share of a part's energy that the best shape may leave unexplained
_STEPS = tuple(np.arange(-2, 3) / 4)  # places tried about the nearest pixel, in pixels
_BLURS = (0.0, 0.6, 0.9)  # standard deviations tried, in pixels
_CHUNK = 256
_MOST_PARTS = 12  # a picture with more is no scene: all its parts are unknown


@dataclass(frozen=True)
class Reading:
    """What a picture shows.

    Attributes:
        objects: what was recognised, from left to right.
        background: its name, or None if no background is near.
        unknown: how many parts resemble no object.
    """

    objects: tuple[Object, ...]
    background: str | None
    unknown: int

    @property
    def scene(self) -> Scene | None:
        """The scene, if all of it was recognised."""
        if self.background is None or self.unknown or not self.objects:
            return None
        return Scene(self.objects, self.background)

    def shows(self, stated: Facts) -> bool:
        """Whether the picture shows exactly what is stated: every object, attribute and relation, and no more."""
        if self.unknown or self.background != stated.background or len(self.objects) != len(stated.kinds):
            return False
        return any(
            tuple(item.kind for item in order) == stated.kinds
            and all(relation(order[i], order[i + 1]) == said for i, said in enumerate(stated.relations))
            for order in permutations(self.objects)
        )


def matches(image: Pictures, caption: str) -> bool:
    """Whether a picture (H, W, 3) uint8 shows exactly what a caption states. Raises UserError on a strange caption."""
    return read(image).shows(parse(caption))


def read(image: Pictures) -> Reading:
    """What one picture (H, W, 3) uint8 shows; see :func:`read_many`."""
    return read_many(image[None])[0]


def read_many(images: Pictures) -> list[Reading]:
    """What pictures (N, H, W, 3) uint8 show. Raises UserError if they are not RGB or have a side below 24 pixels."""
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise UserError(f"scenes are read from (N, H, W, 3) uint8, not {images.shape} {images.dtype}")
    if min(images.shape[1:3]) < SMALLEST:
        raise UserError(f"scenes are read from {SMALLEST} pixels a side, not {images.shape[1]}x{images.shape[2]}")
    readings: list[Reading] = []
    for start in range(0, len(images), _CHUNK):
        readings += _read_chunk(_reduced(images[start : start + _CHUNK]).astype(np.float32))
    return readings


def _read_chunk(pixels: Floats) -> list[Reading]:
    unit = min(pixels.shape[1:3])
    ground, noise = _background(pixels)
    away = pixels - ground[:, None, None]
    parts = _parts(_stands_out(away))
    owners: list[int] = []
    patches: list[_Patch] = []
    unknown = [0] * len(pixels)
    for i, plane in enumerate(parts):
        numbers, areas = np.unique(plane[plane > 0], return_counts=True)
        numbers = numbers[areas >= _SPECK * unit**2]
        cut = [_patch(away[i], plane, number) for number in numbers.tolist()] if len(numbers) <= _MOST_PARTS else []
        kept = [patch for patch in cut if patch is not None]
        unknown[i] = len(numbers) - len(kept)
        patches += kept
        owners += [i] * len(kept)
    found: list[list[Object]] = [[] for _ in pixels]
    for i, item in zip(owners, _recognise(patches, ground[owners], noise[owners], pixels.shape[1:3]), strict=True):
        if item is None:
            unknown[i] += 1
        else:
            found[i].append(item)
    order = [tuple(sorted(items, key=lambda item: (item.x, item.y))) for items in found]
    return [
        Reading(items, _nearest(colour, BACKGROUNDS), strange)
        for items, colour, strange in zip(order, ground, unknown, strict=True)
    ]


def _reduced(images: Pictures) -> Pictures:
    height, width = images.shape[1:3]
    unit = min(height, width)
    if unit <= _READING_SIDE:
        return images
    size = (round(width * _READING_SIDE / unit), round(height * _READING_SIDE / unit))
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) for image in images])


def _background(pixels: Floats) -> tuple[Floats, Floats]:
    """The colour of each picture's frame, (N, 3), and the variance of its noise, (N,), summed over the channels.

    By medians, so that an object that touches the frame changes neither.
    """
    frame = np.concatenate([pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]], axis=1)
    ground = np.median(frame, axis=1)
    spread = 1.4826 * np.median(abs(frame - ground[:, None]), axis=1)
    return ground.astype(np.float32), (spread**2).sum(1).astype(np.float32)


def _stands_out(away: Floats) -> npt.NDArray[np.bool_]:
    """Which pixels (N, H, W) belong to objects: those far from the background, and not faint beside a neighbour.

    The second keeps two objects apart that blur has drawn together.
    """
    contrast = np.sqrt((away**2).sum(3))
    padded = np.pad(contrast, ((0, 0), (1, 1), (1, 1)))
    rows = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    around = np.maximum(np.maximum(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:])
    stands: npt.NDArray[np.bool_] = (contrast > _CONTRAST) & (contrast > _FAINT * around)
    return stands


def _parts(mask: npt.NDArray[np.bool_]) -> Ints:
    """Connected parts of (N, H, W): 0 outside, one positive number a part. Pixels that share an edge are connected."""
    n, height, width = mask.shape
    label = np.where(mask, np.arange(1, height * width + 1).reshape(height, width), 0)
    padded = np.zeros((n, height + 2, width + 2), np.int64)
    inner = padded[:, 1:-1, 1:-1]
    inner[:] = label
    while True:  # the highest number of a part spreads over it
        before = inner.copy()
        for near in (padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]):
            np.maximum(inner, near, out=inner, where=mask)
        if np.array_equal(before, inner):
            return before


@dataclass(frozen=True)
class _Patch:
    """A part and its surroundings: the pixels that are its own, their difference from the background, its place."""

    own: Floats  # (P,) 0 or 1
    seen: Floats  # (P, 3), zero where not its own
    row: int
    column: int


def _patch(away: Floats, parts: Ints, number: int) -> _Patch | None:
    """Part ``number`` with two pixels around it, without its neighbours; None if it is larger than any object."""
    part = parts == number
    side = patch_side(min(part.shape))
    row, column = _centre(away, part)
    if _cut(part, row, column, side).sum() < part.sum():
        return None
    own = _cut(_grown(_grown(part)) & ~_grown((parts > 0) & ~part), row, column, side).reshape(-1, 1)
    seen = np.stack([_cut(away[..., c], row, column, side).reshape(-1) for c in range(3)], 1) * own
    return _Patch(own[:, 0].astype(np.float32), seen, row, column)


def _recognise(patches: list[_Patch], ground: Floats, noise: Floats, size: tuple[int, ...]) -> list[Object | None]:
    """What each patch shows, or None. One matrix product for all: many small ones would stall on their threads."""
    if not patches:
        return []
    height, width = size
    unit = min(size)
    templates, squares, meaning = _templates(unit)
    own = np.stack([patch.own for patch in patches])
    seen = np.stack([patch.seen for patch in patches])
    norm = np.maximum(own @ squares.T, 1e-6)  # (K, T)
    match = seen.transpose(0, 2, 1).reshape(len(patches) * 3, -1) @ templates.T
    match = match.reshape(len(patches), 3, -1)
    explained = (match**2).sum(1) / norm
    best = explained.argmax(1)
    each = np.arange(len(patches))
    expected = noise * own.sum(1)  # of the energy, and of what remains of it, this much is noise
    total = (seen**2).sum((1, 2))
    misfit = (total - explained[each, best] - expected) / np.maximum(total - expected, 1)
    colours = ground + match[each, :, best] / norm[each, best][:, None]
    found: list[Object | None] = []
    for k, patch in enumerate(patches):
        colour = _nearest(colours[k], COLOURS)
        if misfit[k] > _MISFIT or colour is None:
            found.append(None)
            continue
        big, shape, dx, dy = meaning[best[k]]
        x, y = patch.column + 0.5 + dx - (width - unit) / 2, patch.row + 0.5 + dy - (height - unit) / 2
        found.append(Object(Kind(big, colour, shape), x / unit, y / unit))
    return found


def _centre(away: Floats, part: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """The pixel (row, column) nearest to a part's centre; weighed by contrast, for an edge pixel is a part of one."""
    rows, columns = np.nonzero(part)
    weight = np.sqrt((away[rows, columns] ** 2).sum(1))
    return round(float((rows * weight).sum() / weight.sum())), round(float((columns * weight).sum() / weight.sum()))


def _cut(plane: npt.NDArray[_Scalar], row: int, column: int, side: int) -> npt.NDArray[_Scalar]:
    """The (side, side) patch about a pixel, zero beyond the picture."""
    half = side // 2
    patch = np.zeros((side, side), plane.dtype)
    top, left = max(row - half, 0), max(column - half, 0)
    inside = plane[top : row - half + side, left : column - half + side]
    patch[top - row + half :, left - column + half :][: inside.shape[0], : inside.shape[1]] = inside
    return patch


def _grown(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask and its neighbours, corners included."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    grown: npt.NDArray[np.bool_] = rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
    return grown


def _nearest(colour: Floats, known: dict[str, Colour]) -> str | None:
    distances = {name: float(np.linalg.norm(colour - np.array(value))) for name, value in known.items()}
    name = min(distances, key=lambda key: distances[key])
    return name if distances[name] <= _COLOUR_NEAR else None


@lru_cache(maxsize=32)
def _templates(unit: int) -> tuple[Floats, Floats, Sequence[tuple[str, str, float, float]]]:
    """Every shape, size, place and blur as a row (T, side * side), the squares of the rows, and what each row means."""
    side = patch_side(unit)
    place = np.array(list(product(_STEPS, _STEPS)), np.float32)
    rows, meaning = [], []
    for size, shape in product(SIZES, SHAPES):
        radius = np.full(len(place), SIZES[size] * unit, np.float32)
        sharp = coverage(shape, radius, place[:, 0] + side / 2, place[:, 1] + side / 2, side)
        for sigma in _BLURS:
            rows.append(_blurred(sharp, sigma).reshape(len(place), -1))
            meaning += [(size, shape, float(dx), float(dy)) for dx, dy in place]
    table = np.concatenate(rows).astype(np.float32)
    return table, table**2, meaning


def _blurred(x: Floats, sigma: float) -> Floats:
    """A Gaussian blur of (N, side, side), zero outside."""
    if sigma == 0:
        return x
    at = np.arange(x.shape[1])
    kernel = np.exp(-((at[:, None] - at) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum(0).max()).astype(np.float32)
    blurred: Floats = kernel @ x @ kernel.T
    return blurred
