"""``builtin:glyphs``: real letterforms, digits and letters, in many typefaces.

A light glyph stands on black, as in MNIST: the empty frame is then the constant that padding, shifts and a network's
zero padding of the normalised picture agree with, and strokes stay crisp when they are thin.

Every typeface is drawn to one cap height on one baseline, so that C and c, O and o, 0 and O differ as they do in
print. Each picture is a small affine change (size, width, slant, turn, shift) of one style of one typeface; the change
is a pure function of (seed, picture), so the set is the same on every run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from limner import random
from limner.data.builtin_options import check_known, check_pixels, check_size, choice, whole_number
from limner.data.sources import RawSource
from limner.data.typefaces import CHARACTERS, TYPEFACES, Style, cap_height, caption, font, styles
from limner.errors import UserError

VERSION = "1"

_NAME = "builtin:glyphs"
_DEFAULT_SIZE = (28, 28)
_SMALLEST, _LARGEST = 8, 1024
_MOST = 2_000_000
_ROUNDS = {"train": 400, "heldout": 60, "all": 460}  # pictures of each character by default: 24,800, 3,720, 28,520
_CAP, _BASELINE = 0.60, 0.71  # as shares of the picture's shorter side
_CANVAS = 1.3  # the master's side in shorter sides: the widest W is wider than the picture before it is fitted
_MARGIN = 0.03
_CENTRE = (0.5, 0.5)
_WIDER, _LARGER, _SLANT, _TURN, _SHIFT = 0.07, 0.09, 0.06, math.radians(5), 0.035  # the most that affine draws change
_CHUNK_PIXELS = 4_000_000


@dataclass(frozen=True)
class Glyphs:
    """Which glyphs are drawn.

    Attributes:
        split: "train", "heldout" (two whole typefaces that train never shows) or "all".
        characters: the classes, in the order of :data:`CHARACTERS`.
        count: how many pictures; characters take turns, then typefaces, then styles.
        mode: "L" or "RGB" (three equal channels).
        seed: of the affine draws; another seed gives other pictures of the same letterforms.
        size: (height, width) in pixels.
    """

    split: str = "train"
    characters: str = CHARACTERS
    count: int = _ROUNDS["train"] * len(CHARACTERS)
    mode: str = "L"
    seed: int = 0
    size: tuple[int, int] = _DEFAULT_SIZE


def source(options: dict[str, str], size: tuple[int, int] | None) -> RawSource:
    """The pictures of ``builtin:glyphs?key=value&…``; ``size`` is (height, width), 28 x 28 if None.

    Raises:
        UserError: an unknown option, or a value out of range.
    """
    config = configure(options, size)
    images, label = render(config)
    names = tuple(config.characters)
    faces = _typefaces(config.split)
    return RawSource(
        images=images,
        label=label,
        labels=names,
        captions=tuple(caption(names[k]) for k in label.tolist()),
        notes=(f"{len(images)} renderings of {len(names)} characters in {len(faces)} typefaces, split {config.split}",),
        mirror_ok=False,
    )


def configure(options: dict[str, str], size: tuple[int, int] | None = None) -> Glyphs:
    """Typed settings from the words of a ``builtin:glyphs?…`` address. Raises UserError."""
    check_known(_NAME, options, ("split", "characters", "count", "mode", "seed"))
    split = choice(_NAME, options, "split", tuple(_ROUNDS))
    asked = options.get("characters", CHARACTERS)
    strange = "".join(sorted(set(asked) - set(CHARACTERS)))
    if strange or not asked:
        raise UserError(f"{_NAME} draws 0-9, A-Z and a-z, not {strange!r}: change characters=")
    characters = "".join(c for c in CHARACTERS if c in asked)
    mode = choice(_NAME, options, "mode", ("L", "RGB"))
    shape = check_size(_NAME, size or _DEFAULT_SIZE, _SMALLEST, _LARGEST)
    count = whole_number(_NAME, options, "count", _ROUNDS[split] * len(characters), 1, _MOST)
    check_pixels(_NAME, count, shape, len(mode))
    seed = whole_number(_NAME, options, "seed", 0, 0, 2**64 - 1)
    return Glyphs(split, characters, count, mode, seed, shape)


def _typefaces(split: str) -> list[tuple[Style, ...]]:
    """The styles of each typeface of a split."""
    return [styles(face) for face in TYPEFACES if split == "all" or face.held_out == (split == "heldout")]


def plan(config: Glyphs) -> tuple[npt.NDArray[np.int64], list[Style]]:
    """Which character each picture shows, (N,) int64 into ``config.characters``, and in which style."""
    faces = _typefaces(config.split)
    position = np.arange(config.count)
    label = position % len(config.characters)
    turn = position // len(config.characters)
    chosen = [faces[t % len(faces)] for t in turn.tolist()]
    # A typeface's styles take turns too, one step each time the typeface comes round again.
    return label, [face[t // len(faces) % len(face)] for face, t in zip(chosen, turn.tolist(), strict=True)]


def render(config: Glyphs) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The pictures (N, H, W, C) uint8 and their labels (N,) int64.

    Each glyph is drawn once, large, and every picture resamples that master at two or three samples a pixel
    and side, averaged.
    """
    label, drawn_in = plan(config)
    height, width = config.size
    images = np.empty((config.count, height, width, 1), np.uint8)
    over = 3 if max(height, width) <= 128 else 2
    side = math.ceil(min(height, width) * over * _CANVAS)
    chunk = max(1, _CHUNK_PIXELS // (height * width * over * over))
    names = [(style, config.characters[k]) for style, k in zip(drawn_in, label.tolist(), strict=True)]
    # Pictures of one master together: at large sizes only a few masters are held at a time.
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    order = np.argsort([numbers[name] for name in names], kind="stable")
    for start in range(0, len(order), chunk):
        which = order[start : start + chunk]
        present = list(dict.fromkeys(names[i] for i in which.tolist()))
        row = {name: i for i, name in enumerate(present)}
        masters = torch.stack([_master(style, character, side) for style, character in present])
        place = torch.tensor([row[names[i]] for i in which.tolist()])
        images[which] = _resample(masters, place, torch.from_numpy(which), config, over)
    return (images if config.mode == "L" else np.repeat(images, 3, axis=3)), label


@lru_cache(maxsize=256)
def _font_size(style: Style, side: int) -> float:
    return _CAP * side / _CANVAS / cap_height(style)


def _master(style: Style, character: str, side: int) -> Tensor:
    """One glyph, large: (side, side) uint8, its ink centred across, its baseline at its place."""
    face = font(style, _font_size(style, side))
    unit = side / _CANVAS
    left, _, right, _ = face.getbbox(character, anchor="ls")
    canvas = Image.new("L", (side, side))
    at = (side / 2 - (left + right) / 2, side / 2 + (_BASELINE - 0.5) * unit)
    ImageDraw.Draw(canvas).text(at, character, fill=255, font=face, anchor="ls")
    return torch.from_numpy(np.array(canvas))


def _ink(masters: Tensor) -> Tensor:
    """The box of the ink of each master, (M, 4): left, top, right, bottom, in shares of the picture's side."""
    side = masters.shape[-1]
    where = torch.arange(side)
    boxes = []
    for axis in (1, 2):  # the columns that hold ink, then the rows
        ink = masters.amax(axis) > 0
        first = torch.where(ink, where, side).amin(1)
        last = torch.where(ink, where, -1).amax(1) + 1
        boxes.append(torch.stack([first, last], 1))
    box = torch.cat(boxes, 1).float().div(side).sub(0.5).mul(_CANVAS).add(0.5)
    return box[:, [0, 2, 1, 3]]


def _affine(box: Tensor, samples: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """(N, 2, 2) and (N, 2): point p goes to A (p - centre) + centre + shift, and the ink stays inside the picture."""
    u = random.uniform(seed, samples, "glyphs/affine", shape=(6,)) * 2 - 1
    size = torch.exp(u[:, 0] * _LARGER)
    wide, tall = size * torch.exp(u[:, 1] * _WIDER), size * torch.exp(-u[:, 1] * _WIDER)
    slant, turn = u[:, 2] * _SLANT, u[:, 3] * _TURN
    cos, sin = torch.cos(turn), torch.sin(turn)
    rotate = torch.stack([cos, -sin, sin, cos], 1).reshape(-1, 2, 2)
    stretch = torch.stack([wide, slant * tall, torch.zeros_like(wide), tall], 1).reshape(-1, 2, 2)
    matrix, shift = rotate @ stretch, u[:, 4:6] * _SHIFT
    centre = torch.tensor(_CENTRE)
    corners = torch.stack([box[:, [x, y]] for x in (0, 2) for y in (1, 3)], 1) - centre
    moved = corners @ matrix.transpose(1, 2)
    extent = (moved.amax(1) - moved.amin(1)).amax(1)
    fitted = ((1 - 2 * _MARGIN) / extent).clamp(max=1).reshape(-1, 1, 1)
    low, high = (moved * fitted).amin(1) + centre, (moved * fitted).amax(1) + centre
    return matrix * fitted, torch.minimum(torch.maximum(shift, _MARGIN - low), 1 - _MARGIN - high)


def _resample(masters: Tensor, place: Tensor, samples: Tensor, config: Glyphs, over: int) -> npt.NDArray[np.uint8]:
    """Pictures (N, H, W, 1) of masters[place], each under its affine change."""
    height, width = config.size
    matrix, shift = _affine(_ink(masters)[place], samples, config.seed)
    inverse = torch.linalg.inv(matrix)
    # From the output's [-1, 1] to shares of the shorter side about the centre, back through the change, to the master.
    shorter = min(height, width)
    scale = torch.tensor([width / shorter / 2, height / shorter / 2])
    offset = -(inverse @ shift.unsqueeze(2))
    theta = torch.cat([inverse * scale, offset], 2) * (2 / _CANVAS)
    grid = F.affine_grid(theta, [len(place), 1, height * over, width * over], align_corners=False)
    fine = F.grid_sample(masters.float().unsqueeze(1)[place], grid, padding_mode="zeros", align_corners=False)
    coarse = F.avg_pool2d(fine, over)
    return coarse.add_(0.5).clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
