"""Scenes of ``builtin:shapes`` and the sentences that state them, both ways.

Coordinates are shares of the picture's shorter side: x to the right, y down, (0.5, 0.5) the middle.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from limner.errors import UserError, nearest

Colour = tuple[int, int, int]

#: Radius of each size; 3.2 and 5.1 pixels at 32 x 32.
SIZES: dict[str, float] = {"small": 0.10, "large": 0.16}
COLOURS: dict[str, Colour] = {
    "red": (220, 30, 30),
    "orange": (250, 120, 0),
    "yellow": (255, 225, 30),
    "green": (30, 150, 50),
    "cyan": (60, 210, 230),
    "blue": (30, 70, 220),
    "purple": (150, 30, 190),
    "pink": (255, 130, 190),
}
BACKGROUNDS: dict[str, Colour] = {
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "black": (0, 0, 0),
    "navy": (15, 25, 80),
}
#: Left, top, right, bottom of each shape about its centre of area, in radii.
BOXES: dict[str, tuple[float, float, float, float]] = {
    "circle": (-1.0, -1.0, 1.0, 1.0),
    "square": (-0.9, -0.9, 0.9, 0.9),
    "triangle": (-1.126, -1.3, 1.126, 0.65),
    "diamond": (-1.2, -1.2, 1.2, 1.2),
    "cross": (-1.1, -1.1, 1.1, 1.1),
    "ring": (-1.1, -1.1, 1.1, 1.1),
}
SHAPES: tuple[str, ...] = tuple(BOXES)
RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class Kind:
    """What an object looks like, wherever it is."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Object:
    """A thing at a place; (x, y) is its centre of area."""

    kind: Kind
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """One to three objects on a plain background."""

    objects: tuple[Object, ...]
    background: str


@dataclass(frozen=True)
class Facts:
    """All that a caption states: the objects, how each stands to the next, and the background."""

    kinds: tuple[Kind, ...]
    relations: tuple[str, ...]
    background: str

    def __str__(self) -> str:
        if len(self.kinds) == 1:
            return f"{self.kinds[0]} on {self.background}"
        first = f"{self.kinds[0]} {self.relations[0]} {self.kinds[1]}"
        if len(self.kinds) == 2:
            return f"{first} on {self.background}"
        return f"{first}, which is {self.relations[1]} {self.kinds[2]}, on {self.background}"


def relation(a: Object, b: Object) -> str:
    """How a stands to b: along the axis on which their centres lie further apart."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) >= abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def facts(scene: Scene) -> Facts:
    """What is to be said of a scene."""
    relations = tuple(relation(a, b) for a, b in pairwise(scene.objects))
    return Facts(tuple(item.kind for item in scene.objects), relations, scene.background)


def describe(scene: Scene) -> str:
    """The caption: "a small red circle left of a large blue square, which is above a small pink ring, on white"."""
    return str(facts(scene))


def _pattern() -> re.Pattern[str]:
    kind = rf"a ({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
    relations = f"({'|'.join(RELATIONS)})"
    return re.compile(
        rf"{kind}(?: {relations} {kind}(?:, which is {relations} {kind},)?)? on ({'|'.join(BACKGROUNDS)})"
    )


_CAPTION = _pattern()
_WORDS = frozenset(
    word for text in (*SIZES, *COLOURS, *SHAPES, *RELATIONS, *BACKGROUNDS, "a which is on") for word in text.split()
)


def parse(caption: str) -> Facts:
    """What a caption states. Raises UserError, with the nearest known word, if it is no such sentence.

    Capitals, spaces and a full stop at the end do not matter.
    """
    text = " ".join(caption[:400].lower().split()).removesuffix(".")
    found = _CAPTION.fullmatch(text)
    if found is None:
        for word in re.findall(r"[^\s,]+", text):
            if word not in _WORDS:
                raise UserError(f"a caption of builtin:shapes has no word {word!r}{nearest(word, _WORDS)}")
        raise UserError(
            f"{text!r} is no caption of builtin:shapes; "
            "write like 'a small red circle left of a large blue square, which is above a small pink ring, on white'"
        )
    words = found.groups()
    objects = [Kind(*words[i : i + 3]) for i in (0, 4, 8) if words[i] is not None]
    return Facts(tuple(objects), tuple(r for r in (words[3], words[7]) if r is not None), words[11])
