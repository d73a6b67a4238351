"""What to give 100, 1,000 or 10,000 pictures: recipes and settings at equal minutes, judged by pictures unseen.

    LIMNER_MIRROR=DIR python benchmarks/small_data.py --data mnist --extractor lenet --minutes 2

Each cell is one run on a keyed choice of so many pictures. Its samples are judged by the distance to pictures of the
set that it never saw, by how many of those it could make (recall, coverage), and by the share of near copies of what
it did see. What is in --out is kept.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import limner
from limner.data import DataConfig, Dataset
from limner.data.cache import cache_root
from limner.files import write_json
from limner.metrics import evaluate
from limner.objectives import ADA
from limner.recipes import AdversarialRecipe, AnyRecipe, Size, recipe
from limner.training.grids import grid, save_png

UNSEEN = ("fd", "precision", "recall", "coverage")


def _with_dropout(name: str, share: float) -> Callable[[Size], AnyRecipe]:
    def make(size: Size) -> AnyRecipe:
        settings = recipe(name, size)
        return replace(settings, net=replace(settings.net, dropout=share))  # type: ignore[arg-type]

    return make


def _with_crop(name: str, pixels: int) -> Callable[[Size], AnyRecipe]:
    def make(size: Size) -> AnyRecipe:
        settings = recipe(name, size)
        return replace(settings, augment=replace(settings.augment, crop=pixels))

    return make


def _with_ada(name: str) -> Callable[[Size], AnyRecipe]:
    def make(size: Size) -> AnyRecipe:
        settings = recipe(name, size)
        assert isinstance(settings, AdversarialRecipe)
        return replace(settings, objective=replace(settings.objective, augment=ADA()))

    return make


VARIANTS: dict[str, Callable[[Size], AnyRecipe]] = {
    **{name: lambda size, name=name: recipe(name, size) for name in ("flow", "vae", "drift", "dcgan")},  # type: ignore[misc]
    "flow-dropout0.1": _with_dropout("flow", 0.1),
    "flow-dropout0.3": _with_dropout("flow", 0.3),
    "flow-crop1": _with_crop("flow", 1),
    "flow-crop2": _with_crop("flow", 2),
    "dcgan-ada": _with_ada("dcgan"),
}


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        data: a source with more than the most pictures.
        extractor: what looks at the pictures.
        variants: of limner, names of VARIANTS.
        pictures: how many are trained on.
        size: of the networks.
        minutes: of each run.
        seed: of each run.
        samples: judged.
        out: where runs and cells are kept.
    """

    data: str = "mnist"
    extractor: str = "lenet"
    variants: tuple[str, ...] = tuple(VARIANTS)
    pictures: tuple[int, ...] = (100, 1_000, 10_000)
    size: Size = "tiny"
    minutes: float = 2.0
    seed: int = 1
    samples: int = 2_000
    out: Path = Path("build/small_data")


@lru_cache(maxsize=1)
def whole(source: str) -> Dataset:
    return limner.open_dataset(source, progress=False)


def unseen(source: str, seen: Dataset) -> Dataset:
    """The pictures of the set of which none is among ``seen``, doubles included."""
    known = {hashlib.blake2b(picture.tobytes()).digest() for picture in seen.images}
    rows = [i for i, one in enumerate(whole(source).images) if hashlib.blake2b(one.tobytes()).digest() not in known]
    return whole(source).subset(np.array(rows))


def cell(args: Args, count: int, variant: str, name: str) -> dict[str, Any]:
    settings = VARIANTS[variant](args.size)
    settings = replace(settings, watch=replace(settings.watch, judge=0), seed=args.seed)
    data, run = DataConfig(args.data, limit=count), args.out / name
    if not (run / "snapshot").exists():
        limner.train(settings, data, out=run, minutes=args.minutes, show=False)
    seen = limner.open_dataset(data, progress=False)
    drawn = limner.sample(limner.load(run), args.samples, seed=20_000)
    save_png(grid(drawn[:50], columns=10), run.with_suffix(".png"))
    extractor = limner.load_extractor(args.extractor, shape=seen.images.shape[1:])
    measures = cache_root(None) / "measures"
    far = evaluate(drawn, unseen(args.data, seen), extractor=extractor, metrics=UNSEEN, cache=measures)
    near = evaluate(drawn, seen, extractor=extractor, metrics=("originality",), cache=measures)
    about = {"images": json.loads((run / "done.json").read_text())["images"]}
    return about | {one: far.value(one) for one in UNSEEN} | {"originality": near.value("originality")}


def main(args: Args) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "cells.json"
    cells: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    for count, variant in itertools.product(args.pictures, args.variants):
        name = f"{args.data}-{count}-{variant}-{args.size}-{args.minutes:g}min-{args.seed}"
        if name not in cells:
            cells[name] = cell(args, count, variant, name)
            write_json(path, cells)
            print(name, json.dumps(cells[name]), file=sys.stderr, flush=True)
    columns = ("images", *UNSEEN, "originality")
    print(f"| run | {' | '.join(columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for name, one in cells.items():
        print(f"| {name} | {one['images']:,} | " + " | ".join(f"{one[column]:.3f}" for column in columns[1:]) + " |")


if __name__ == "__main__":
    main(tyro.cli(Args))
