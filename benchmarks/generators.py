"""Digits by every recipe that decodes codes or writes site by site, in ten minutes each, by the judge of all MNIST
benchmarks.

    LIMNER_MIRROR=DIR python benchmarks/generators.py --recipes dcgan vae --minutes 10 --seeds 1 2 3

Each is run as a user runs it, ``limner train RECIPE --data mnist --minutes M``, and draws with its defaults: medians
over seeds, beside what real held-out digits score. What needs a codec trains its own first, for --codec-share of the
minutes. Finished cells and runs are kept in --out, and a row of samples of each recipe in all.png.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tyro

import limner
from limner.training.grids import grid, save_png
from mnist import Cell, Cells
from mnist_judge import held_out, judge
from runs import trained

#: The seed of the judged samples, how many of them are in a cell's picture, and how many in a recipe's row of all.
DRAWN, PICTURES, ROW = 20_000, 100, 20
#: Of recall and coverage of held-out digits, the share that a generator must have.
VARIETY = 0.8
#: The Fréchet distances that the project asks for.
AIMS = {
    "vae": 60, "dcgan": 25, "wgan-gp": 40, "sagan": 30, "biggan": 30, "stylegan2": 30, "r3gan": 30, "drift": 30,
    "pixelcnn++": 40, "imagegpt": 60, "vqgpt": 60, "var": 60,
}  # fmt: skip
#: What stands between digits and what writes its tokens, as options of ``limner train``.
CODECS: dict[str, tuple[str, ...]] = {"vqgpt": (), "var": ("--net.scales", "1", "2", "4", "7")}


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        recipes: which.
        minutes: the budget of each.
        seeds: of trainings.
        samples: judged.
        codec_share: of the minutes, where there is one.
        out: where finished cells, runs and pictures are kept.
    """

    recipes: tuple[str, ...] = tuple(AIMS)
    minutes: float = 10.0
    seeds: tuple[int, ...] = (1, 2, 3)
    samples: int = 5_000
    codec_share: float = 0.3
    out: Path = Path("build/generators")


def run_of(args: Args, recipe: str, seed: int) -> Path:
    return args.out / f"{recipe}-{args.minutes:g}min-{seed}"


def rows(args: Args) -> npt.NDArray[np.uint8 | np.uint16]:
    """A row of samples for each recipe, of the first seed."""
    made = [limner.load(run_of(args, recipe, args.seeds[0])) for recipe in args.recipes]
    return np.concatenate([limner.sample(model, ROW, seed=DRAWN) for model in made])


def taught(args: Args, recipe: str, seed: int) -> Cell:
    """What a training told, of whose minutes its codec has had its share."""
    run = run_of(args, recipe, seed)
    if recipe not in CODECS:
        return trained(run, recipe, "mnist", args.minutes, seed)
    codec, share = run.with_name(f"codec-{run.name}"), args.codec_share
    before = trained(codec, "vq-codec", "mnist", args.minutes * share, seed, *CODECS[recipe])
    told = trained(run, recipe, "mnist", args.minutes * (1 - share), seed, "--codec", str(codec))
    return told | {"wall": told["wall"] + before["wall"]}


def cell(args: Args, recipe: str, seed: int) -> Cell:
    run, told = run_of(args, recipe, seed), taught(args, recipe, seed)
    begun = time.monotonic()
    pictures = limner.sample(limner.load(run), args.samples, seed=DRAWN)
    drawing = time.monotonic() - begun
    save_png(grid(pictures[:PICTURES], columns=10), run.with_suffix(".png"))
    return told | {"drawing": drawing} | asdict(judge(pictures, np.arange(len(pictures)) % 10))


def table(args: Args, cells: Cells) -> str:
    """Markdown, a line a recipe."""
    real = cells.done["held out"]
    lines = [
        "| recipe | images | FD (aim) | seeds | precision | recall | coverage | near copies | read | pictures/s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for recipe in args.recipes:
        seeded = [cells.done[name] for seed in args.seeds if (name := f"{recipe} seed {seed}") in cells.done]
        if not seeded:
            continue

        def middle(key: str, seeded: list[Cell] = seeded) -> float:
            return statistics.median(float(one[key]) for one in seeded)

        seeds = ", ".join(f"{float(one['fd']):.1f}" for one in seeded)
        short = [key for key in ("recall", "coverage") if middle(key) < VARIETY * real[key]]
        lines.append(
            f"| {recipe} | {middle('images'):,.0f} | {middle('fd'):.1f} ({AIMS.get(recipe, '–')}) | "
            f"{seeds} | {middle('precision'):.3f} | "
            f"{middle('recall'):.3f}{'!' if 'recall' in short else ''} | "
            f"{middle('coverage'):.3f}{'!' if 'coverage' in short else ''} | {middle('near_copies'):.2%} | "
            f"{middle('read'):.3f} | {args.samples / middle('drawing'):,.0f} |"
        )
    lines.append(
        f"| held-out digits | | {real['fd']:.1f} | | {real['precision']:.3f} | {real['recall']:.3f} | "
        f"{real['coverage']:.3f} | {real['near_copies']:.2%} | {real['read']:.3f} | |"
    )
    return "\n".join(lines)


def main(args: Args) -> None:
    cells = Cells.of(args.out / "cells.json")
    cells.keep("held out", lambda: asdict(held_out()))
    for seed in args.seeds:
        for recipe in args.recipes:
            cells.keep(f"{recipe} seed {seed}", lambda r=recipe, s=seed: cell(args, r, s))  # type: ignore[misc]
    save_png(grid(rows(args), columns=ROW), args.out / "all.png")
    print(table(args, cells))
    print(f"'!': below {VARIETY} x that of held-out digits")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
