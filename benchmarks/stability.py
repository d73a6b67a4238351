"""Whether generators with a critic collapse on a few hundred pictures, with and without ADA.

    LIMNER_MIRROR=DIR python benchmarks/stability.py --recipes wgan-gp sagan stylegan2 --seeds 1 2 3 4 5 --minutes 5

310 faces at 64x64, networks of a size that two cores train at that resolution in minutes. Samples are judged by the
pictures that they were learned from, as many as there are of those; a run has collapsed whose recall or coverage is
below the stated floor, a share of what one half of the faces scores beside the other half. Finished cells and runs are
kept in --out.
"""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass
from pathlib import Path

import tyro

import limner
from limner.data import DataConfig, Dataset
from limner.recipes import Size
from limner.training.grids import grid, save_png
from mnist import Cell, Cells
from runs import trained
from set_judge import halves, row, scores

FACES, SIZE, DRAWN, SHOWN = "orl", 64, 20_000, 40


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        recipes: which.
        seeds: of trainings.
        minutes: of each.
        size: of the networks.
        floor: the least share of the recall and the coverage of real faces.
        extractor: what looks at the faces.
        out: where finished cells, runs and pictures are kept.
    """

    recipes: tuple[str, ...] = ("wgan-gp", "sagan", "stylegan2")
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    minutes: float = 5.0
    size: Size = "tiny"
    floor: float = 0.2
    extractor: str = "wavelets"
    out: Path = Path("build/stability")


def cell(args: Args, faces: Dataset, recipe: str, augment: str, seed: int) -> Cell:
    run = args.out / f"{recipe}-{augment}-{args.minutes:g}min-{seed}"
    told = trained(
        run, recipe, FACES, args.minutes, seed,
        "--size", args.size, "--data.size", str(SIZE), str(SIZE), "--objective.augment.kind", augment,
    )  # fmt: skip
    drawn = limner.sample(limner.load(run), len(faces), seed=DRAWN)
    save_png(grid(drawn[:SHOWN], columns=10), run.with_suffix(".png"))
    return told | scores(drawn, faces, args.extractor)


def main(args: Args) -> None:
    faces = limner.open_dataset(DataConfig(FACES, size=(SIZE, SIZE)), progress=False)
    cells = Cells.of(args.out / "cells.json")
    real = cells.keep("half beside half", lambda: halves(faces, args.extractor))
    sides = list(itertools.product(args.recipes, ("none", "ada")))
    for seed, (recipe, augment) in itertools.product(args.seeds, sides):
        name = f"{recipe}, {augment} seed {seed}"
        cells.keep(name, lambda r=recipe, a=augment, s=seed: cell(args, faces, r, a, s))  # type: ignore[misc]
    print("| recipe | augmentation | images | fd | precision | recall, least | coverage, least | collapsed |")
    print("|---|---|---|---|---|---|---|---|")
    for recipe, augment in sides:
        rows = [one for seed in args.seeds if (one := cells.done.get(f"{recipe}, {augment} seed {seed}"))]
        fallen = sum(any(one[key] < args.floor * real[key] for key in ("recall", "coverage")) for one in rows)
        images, fd, precision = (statistics.median(one[key] for one in rows) for key in ("images", "fd", "precision"))
        least = " | ".join(f"{min(one[key] for one in rows):.3f}" for key in ("recall", "coverage"))
        print(
            f"| {recipe} | {augment} | {images:,.0f} | {fd:.4g} | {precision:.3f} | {least} | {fallen} of {len(rows)} |"
        )
    print(f"| half beside half | | | {row(real)} | |")
    print(f"collapsed: recall or coverage below {args.floor:g} x those of one half of the faces beside the other")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
