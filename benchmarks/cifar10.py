"""CIFAR-10 in 30 minutes: limner's defaults beside the tuned peer of the diffusers library, by one judge in one run.

    LIMNER_MIRROR=DIR python benchmarks/cifar10.py --minutes 30

10,000 pictures of the training set, class-conditional. limner is run as a user runs it, ``limner train RECIPE --data
cifar10 --minutes M``. The peer (``peers.py``) has a network of equal FLOPs and the time that limner's images take, at
paces measured in turns of a few seconds: a machine's may double from one half-hour to the next, and would else favour
whom it pleases. Judged are --samples of each over ResNet-56's features. What is in --out is kept.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import tyro

import limner
from limner.contracts import Condition, Level
from limner.data import Dataset
from limner.data.cache import cache_root
from limner.files import write_json
from limner.metrics import evaluate
from limner.recipes import Size, recipe
from limner.training.costs import counted
from limner.training.grids import grid, save_png

EXTRACTOR = "resnet-cifar"
METRICS = ("fd", "precision", "recall", "coverage", "originality")
#: Seeds of the judged pictures, and of those that a peer's guidance is chosen by.
DRAWN, CHOSEN, CHOSEN_BY = 20_000, 30_000, 1_000
PICTURES = 50


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        minutes: the budget.
        seeds: of limner's trainings.
        peer: whether the peer is trained too.
        recipe: of limner.
        size: of limner's network; auto is what a user gets.
        samples: judged.
        seconds: of a turn, where paces are compared.
        turns: of each side.
        out: where finished cells, runs and the peer's network are kept.
    """

    minutes: float = 30.0
    seeds: tuple[int, ...] = (1,)
    peer: bool = True
    recipe: str = "flow"
    size: Size | str = "auto"
    samples: int = 5_000
    seconds: float = 4.0
    turns: int = 7
    out: Path = Path("build/cifar10")


Cell = dict[str, Any]


@lru_cache(maxsize=1)
def pictures() -> Dataset:
    return limner.open_dataset("cifar10", progress=False)


def judged(drawn: npt.NDArray[np.uint8], picture: Path) -> Cell:
    save_png(grid(drawn[:PICTURES], columns=10), picture)
    extractor = limner.load_extractor(EXTRACTOR)
    report = evaluate(drawn, pictures(), extractor=extractor, metrics=METRICS, cache=cache_root(None) / "measures")
    return {name: report.value(name) for name in METRICS} | {"picture": str(picture)}


def ours(args: Args, seed: int) -> Cell:
    run = args.out / f"{args.recipe}-{args.size}-{args.minutes:g}min-{seed}"
    command = [sys.executable, "-m", "limner.cli", "train", args.recipe, "--data", "cifar10", "--out", str(run),
               "--minutes", str(args.minutes), "--seed", str(seed), "--size", args.size, "--json"]  # fmt: skip
    if not (run / "done.json").exists():
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    told = json.loads((run / "done.json").read_text())
    drawn = limner.sample(limner.load(run), args.samples, seed=DRAWN)
    about = {"images": told["images"], "wall": sum(told["seconds"].values()) - told["seconds"]["judging"]}
    return about | judged(drawn, run.with_suffix(".png"))


def flops(args: Args) -> float:
    """Of one forward pass of limner's network."""
    data = pictures()
    size = limner.recipes.size_for(args.minutes) if args.size == "auto" else args.size
    net = recipe(args.recipe, size).lesson(data.spec, data.labels, data.stats).model.net
    one = torch.ones(1)
    return counted(lambda: net(torch.zeros(1, *data.spec.shape), Level(one, one), Condition(torch.zeros(1).long())))


def ratio(args: Args, target: float) -> float:
    """Images of limner's training to one of the peer's, in the same time."""
    import few_steps
    import peers

    data, kind = pictures(), peers.Kind(channels=3, side=32)
    assert data.label is not None
    size = limner.recipes.size_for(args.minutes) if args.size == "auto" else args.size
    lesson = peers.lesson(np.asarray(data.images), data.label, 0, target, peers.Tuning(), kind)
    known = lesson.paces()
    narrow = known["bfloat16"] > known["float32"]

    def peer(seconds: float) -> float:
        begun = time.monotonic()
        seen = lesson.train(lambda _: (time.monotonic() - begun) / seconds, narrow)
        return seen / (time.monotonic() - begun)

    sides = [few_steps.trainer(recipe(args.recipe, size), data), peer]
    return statistics.median(a / b for a, b in few_steps.paces(sides, args.seconds, args.turns))


def tuned(args: Args, seed: int, shown: int) -> Cell:
    """The peer as it is after as long as limner took to show so many images."""
    import peers

    data, kind = pictures(), peers.Kind(channels=3, side=32)
    assert data.label is not None
    target = flops(args)
    kept = args.out / f"tuned-{args.minutes:g}min-{seed}.safetensors"
    if not kept.exists():
        images = round(shown / ratio(args, target))
        peers.tuned(np.asarray(data.images), data.label, args.minutes, seed, target, kind=kind, shown=images).save(kept)
    trained = peers.Trained.of(kept, peers.tuned_net(target, kind=kind))
    draws = peers.tuned_draws(trained.net, kind=kind)
    tried = {g: judged(draw(CHOSEN_BY, CHOSEN), kept.with_suffix(f".{g:g}.png"))["fd"] for g, draw in draws.items()}
    best = min(tried, key=lambda g: tried[g])
    about = asdict(trained.training) | {"guidance": best, "tried": {f"{g:g}": fd for g, fd in tried.items()}}
    return (
        about | {"wall": trained.training.seconds} | judged(draws[best](args.samples, DRAWN), kept.with_suffix(".png"))
    )


def main(args: Args) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "cells.json"
    cells: dict[str, Cell] = json.loads(path.read_text()) if path.exists() else {}

    def keep(name: str, make: Callable[[], Cell]) -> None:
        if name not in cells:
            cells[name] = make()
            write_json(path, cells)
            print(name, json.dumps(cells[name]), file=sys.stderr, flush=True)

    for seed in args.seeds:
        keep(f"{args.recipe} {args.size} {args.minutes:g} min seed {seed}", lambda seed=seed: ours(args, seed))  # type: ignore[misc]
    if args.peer:
        shown = cells[f"{args.recipe} {args.size} {args.minutes:g} min seed {args.seeds[0]}"]["images"]
        keep(f"tuned {args.minutes:g} min seed 1", lambda: tuned(args, 1, shown))
    print(f"| what | images seen | wall s | {' | '.join(METRICS)} |")
    print("|---" * (3 + len(METRICS)) + "|")
    for name, cell in cells.items():
        scores = " | ".join(f"{cell[metric]:.3f}" for metric in METRICS)
        print(f"| {name} | {cell['images']:,} | {cell['wall']:.0f} | {scores} |")


if __name__ == "__main__":
    main(tyro.cli(Args))
