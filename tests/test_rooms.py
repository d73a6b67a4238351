"""The order of the rooms: a room imports from lower floors and from itself, never up and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import limner

SOURCE = Path(limner.__file__).parent
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "allocator",
        "memory",
        "began",
        "downloads",
        "errors",
        "files",
        "config",
        "tensors",
        "text",
        "distributions",
        "contracts",
        "writing",
        "noise_schedules",
        "random",
        "distributed",
        "shards",
    ),
    ("features",),
    ("models", "codecs", "data"),
    ("objectives", "sampling", "metrics"),
    ("training", "latents", "probing"),
    ("recipes", "comparison"),
    ("gallery", "commands", "judging", "exploring", "demo", "signatures", "arguments", "cli"),
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


def at_import(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import that runs when the file is imported: not in functions, not for types alone."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
        waiting += ast.iter_child_nodes(node)


def test_what_only_tests_and_benchmarks_have_is_never_imported() -> None:
    """torchvision has no build for every torch, and the extras are not on a user's machine."""
    extras = {
        "torchvision",
        "scipy",
        "torchmetrics",
        "prdc",
        "diffusers",
        "accelerate",
        "webdataset",
        "pytest",
        "hypothesis",
    }
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in extras, f"{path.relative_to(SOURCE)}:{node.lineno} imports {name}"  # type: ignore[attr-defined]


def test_what_is_slow_to_import_waits_until_it_is_used() -> None:
    """Outside of the command line, which cannot do without its parser."""
    slow = {"matplotlib", "tensorboard", "rich", "pydantic", "tokenizers", "transformers", "pydicom", "datasets"}
    for path in FILES:
        for line, name in at_import(path):
            assert name.split(".")[0] not in slow, f"{path.relative_to(SOURCE)}:{line} imports {name} at once"


def test_rooms_stand_in_no_circle() -> None:
    """Also on the floors where files may build on each other."""
    below: dict[str, set[str]] = {}
    for path in FILES:
        below.setdefault(room(path), set()).update(other for _, other in imports(path) if other != room(path))
    order = list(TopologicalSorter(below).static_order())
    assert order.index("errors") < order.index("data") < order.index("training") < order.index("cli")
