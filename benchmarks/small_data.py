"""What to give 100, 1,000 or 10,000 pictures: sizes, dropout and shifts at equal minutes, judged by pictures unseen.

    LIMNER_MIRROR=DIR python benchmarks/small_data.py --data fashion-mnist --minutes 3

Each cell is one run of limner's own command on a keyed choice of so many pictures. Its samples are judged by the
distance to pictures of the set that it never saw, by how many of those it could make (recall, coverage), and by the
share of near copies of what it did see. What is in --out is kept.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
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
from limner.recipes import Size, recipe
from limner.training.grids import grid, save_png

UNSEEN = ("fd", "precision", "recall", "coverage")


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        data: a source with more than the most pictures.
        extractor: what looks at the pictures.
        recipe: of limner.
        pictures: how many are trained on.
        sizes: of the network.
        dropouts: in the network.
        crops: pixels that a picture is shifted by, at most.
        minutes: of each run.
        seed: of each run.
        samples: judged.
        out: where runs and cells are kept.
    """

    data: str = "fashion-mnist"
    extractor: str = "squeezenet"
    recipe: str = "flow"
    pictures: tuple[int, ...] = (100, 1_000, 10_000)
    sizes: tuple[Size, ...] = ("tiny", "small")
    dropouts: tuple[float, ...] = (0.0, 0.2)
    crops: tuple[int, ...] = (0,)
    minutes: float = 3.0
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


def cell(args: Args, count: int, size: Size, dropout: float, crop: int, name: str) -> dict[str, Any]:
    settings = recipe(args.recipe, size)
    settings = replace(
        settings,
        net=replace(settings.net, dropout=dropout),  # type: ignore[arg-type]
        augment=replace(settings.augment, crop=crop),
        watch=replace(settings.watch, judge=0),
        seed=args.seed,
    )
    data, run = DataConfig(args.data, limit=count), args.out / name
    if not (run / "snapshot").exists():
        limner.train(settings, data, out=run, minutes=args.minutes)
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
    for count, size, dropout, crop in itertools.product(args.pictures, args.sizes, args.dropouts, args.crops):
        name = f"{args.data}-{count}-{size}-{dropout:g}-{crop}-{args.minutes:g}min-{args.seed}"
        if name not in cells:
            cells[name] = cell(args, count, size, dropout, crop, name)
            write_json(path, cells)
            print(name, json.dumps(cells[name]), file=sys.stderr, flush=True)
    columns = ("images", *UNSEEN, "originality")
    print(f"| run | {' | '.join(columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for name, one in cells.items():
        print(f"| {name} | {one['images']:,} | " + " | ".join(f"{one[column]:.3f}" for column in columns[1:]) + " |")


if __name__ == "__main__":
    main(tyro.cli(Args))
