"""``builtin:shapes``: drawn scenes whose caption states exactly what is in them.

A scene holds one to three objects, no two of one colour and shape, at most two of them large, apart from each other by
a clear gap. Each object's
relation to the next is clear: their boxes are apart along that axis, and the other axis differs by much less.
Scene i is a pure function of (seed, i).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from limner import random
from limner.data.builtin_options import check_known, check_pixels, check_size, whole_number
from limner.data.shapes_drawing import LARGEST, SMALLEST, draw, draw_many
from limner.data.shapes_reader import Reading, matches, read, read_many
from limner.data.shapes_scene import (
    BACKGROUNDS,
    BOXES,
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    Facts,
    Kind,
    Object,
    Scene,
    describe,
    facts,
    parse,
    relation,
)
from limner.data.sources import RawSource

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "VERSION",
    "Facts",
    "Kind",
    "Object",
    "Reading",
    "Scene",
    "describe",
    "draw",
    "draw_many",
    "facts",
    "make_scenes",
    "matches",
    "parse",
    "read",
    "read_many",
    "relation",
    "source",
]

VERSION = "1"

_NAME = "builtin:shapes"
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_COUNT, _MOST = 20_000, 2_000_000
_MAX_OBJECTS = 3
_GAP, _EDGE = 0.075, 0.035  # between boxes, and to the picture's edge
_ASIDE = 0.75  # the other axis differs by at most this share of the stated one
_TRIES = 5_000  # of placing; most scenes take fewer than 20, the most crowded some hundreds
_BOX_TABLE = np.array([BOXES[shape] for shape in SHAPES], np.float32)
_SIZE_TABLE = np.array(list(SIZES.values()), np.float32)


@dataclass(frozen=True)
class _Drafts:
    """Scenes before they are placed; rows beyond ``count`` objects are void."""

    count: Ints  # (N,)
    look: Ints  # (N, 3): colour and shape as one number
    size: Ints  # (N, 3)
    background: Ints  # (N,)

    def boxes(self) -> Floats:
        """(N, 3, 4): left, top, right, bottom about the centre."""
        return _BOX_TABLE[self.look % len(SHAPES)] * _SIZE_TABLE[self.size][..., None]


def source(options: dict[str, str], size: tuple[int, int] | None) -> RawSource:
    """The pictures of ``builtin:shapes?key=value&…``; ``size`` is (height, width), 32 x 32 if None.

    Options: ``count`` (20,000 by default) and ``seed``. Pictures are RGB, without labels; captions only.

    Raises:
        UserError: an unknown option, or a value out of range.
    """
    check_known(_NAME, options, ("count", "seed"))
    count = whole_number(_NAME, options, "count", _COUNT, 1, _MOST)
    shape = check_size(_NAME, size or (32, 32), SMALLEST, LARGEST)
    check_pixels(_NAME, count, shape, 3)
    scenes = make_scenes(count, seed=whole_number(_NAME, options, "seed", 0, 0, 2**64 - 1))
    return RawSource(
        images=draw_many(scenes, shape),
        captions=tuple(describe(scene) for scene in scenes),
        notes=(f"{count} scenes of one to {_MAX_OBJECTS} objects, drawn",),
        mirror_ok=False,  # a mirror swaps left and right, and the caption would lie
    )


def make_scenes(count: int, *, seed: int = 0, first: int = 0) -> list[Scene]:
    """Scenes number ``first`` to ``first + count - 1`` of a seed."""
    samples = torch.arange(first, first + count)
    drafts = _draft(samples, seed)
    centres = _place(drafts, samples, seed)
    colours, sizes, backgrounds = tuple(COLOURS), tuple(SIZES), tuple(BACKGROUNDS)
    scenes = []
    for i, many in enumerate(drafts.count.tolist()):
        things = []
        for look, big, (x, y) in zip(
            drafts.look[i, :many].tolist(), drafts.size[i, :many].tolist(), centres[i, :many].tolist(), strict=True
        ):
            kind = Kind(sizes[big], colours[look // len(SHAPES)], SHAPES[look % len(SHAPES)])
            things.append(Object(kind, x, y))
        scenes.append(Scene(tuple(things), backgrounds[int(drafts.background[i])]))
    return scenes


def _draft(samples: torch.Tensor, seed: int) -> _Drafts:
    u = random.uniform(seed, samples, "shapes/draft", shape=(3 + 2 * _MAX_OBJECTS,)).numpy()
    looks = len(COLOURS) * len(SHAPES)
    look = np.empty((len(u), _MAX_OBJECTS), np.int64)
    for k in range(_MAX_OBJECTS):  # without putting back: step over those taken, from the lowest up
        look[:, k] = np.floor(u[:, 3 + k] * (looks - k))
        for taken in np.sort(look[:, :k], axis=1).T:
            look[:, k] += look[:, k] >= taken
    size = np.floor(u[:, 3 + _MAX_OBJECTS :] * len(SIZES)).astype(np.int64)
    crowded = np.flatnonzero(size.all(1))  # three large objects hardly fit: one of them becomes small
    size[crowded, np.floor(u[crowded, 2] * _MAX_OBJECTS).astype(np.int64)] = 0
    return _Drafts(
        count=1 + np.floor(u[:, 0] * _MAX_OBJECTS).astype(np.int64),
        look=look,
        size=size,
        background=np.floor(u[:, 1] * len(BACKGROUNDS)).astype(np.int64),
    )


def _place(drafts: _Drafts, samples: torch.Tensor, seed: int) -> Floats:
    """Centres (N, 3, 2): drawn again for each scene until its objects stand clear of each other."""
    boxes = drafts.boxes()
    centres = np.zeros((len(samples), _MAX_OBJECTS, 2), np.float32)
    open_ = np.arange(len(samples))
    low, high = _EDGE - boxes[..., :2], 1 - _EDGE - boxes[..., 2:]
    for attempt in range(_TRIES):
        u = random.uniform(seed, samples[open_], "shapes/place", attempt, shape=(_MAX_OBJECTS, 2)).numpy()
        trial = low[open_] + u * (high[open_] - low[open_])
        good = _clear(trial, boxes[open_], drafts.count[open_])
        centres[open_[good]] = trial[good]
        open_ = open_[~good]
        if not len(open_):
            return centres
    raise RuntimeError(f"{len(open_)} scenes could not be placed in {_TRIES} tries")


def _clear(centres: Floats, boxes: Floats, count: Ints) -> npt.NDArray[np.bool_]:
    """(N,) whether objects stand apart and stated relations are plain."""
    good = np.ones(len(centres), bool)
    for a, b in ((0, 1), (1, 2), (0, 2)):
        gap, offset = _apart(centres[:, [a, b]], boxes[:, [a, b]])
        fine = gap.max(1) >= _GAP
        if b == a + 1:  # neighbours in the caption: the axis that is stated must be the one that is apart
            main = offset.argmax(1)[:, None]
            fine = np.take_along_axis(gap, main, 1)[:, 0] >= _GAP
            fine &= offset.min(1) <= _ASIDE * offset.max(1)
        good &= fine | (count <= b)
    return good


def _apart(centres: Floats, boxes: Floats) -> tuple[Floats, Floats]:
    """The gap between two boxes and the distance of their centres, (N, 2) each: along x and y."""
    low, high = centres + boxes[..., :2], centres + boxes[..., 2:]
    gap = np.maximum(low[:, 1] - high[:, 0], low[:, 0] - high[:, 1])
    return gap, abs(centres[:, 1] - centres[:, 0])
