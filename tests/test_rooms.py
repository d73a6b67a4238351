"""The order of the rooms: a room imports from lower floors and from itself, never up and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import limner

SOURCE = Path(limner.__file__).parent
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "files", "config", "tensors", "contracts", "random"),
    ("features",),
    ("models", "codecs", "data"),
    ("objectives", "sampling", "metrics"),
    ("training",),
    ("recipes",),
    ("commands", "demo", "cli"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
#: The glyph reader judges what ``data`` draws; single files on the ground floor build on each other.
WITHIN = {0, 6}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, room) of every import of limner, also those inside functions."""
    package = ("limner", *path.relative_to(SOURCE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "limner" else [module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "limner" and len(parts) > 1:
                yield getattr(node, "lineno", 0), parts[1]


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(SOURCE)) for path in FILES])
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    assert here in FLOOR, f"{here} has no floor: give it one in this test and on the design page"
    for line, other in imports(path):
        if other == here:
            continue
        lower = FLOOR[other] < FLOOR[here] or (FLOOR[other] == FLOOR[here] and FLOOR[here] in WITHIN)
        assert lower, f"{path.relative_to(SOURCE)}:{line} imports {other}, which is not below {here}"


def test_the_reading_of_imports_sees_relative_ones() -> None:
    found = {other for path in FILES for _, other in imports(path)}
    assert {"errors", "random", "data", "features", "training"} <= found


def test_nothing_pulls_torchvision() -> None:
    for path in FILES:
        assert "torchvision" not in path.read_text(encoding="utf-8"), path
