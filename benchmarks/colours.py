"""Pictures in colour by recipes that decode codes, each in the same minutes, by one judge.

    LIMNER_MIRROR=DIR python benchmarks/colours.py --data emoji --recipes stylegan2 --minutes 10
    LIMNER_MIRROR=DIR python benchmarks/colours.py --data cifar10 --recipes biggan --minutes 10

Each is run as a user runs it, ``limner train RECIPE --data DATA --minutes M``, and draws with its defaults as many
samples as the set has pictures, at most --samples. Beside them: one half of the set beside the other. Finished cells,
runs and pictures are kept in --out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

import limner
from limner.data import DataConfig, Dataset
from limner.training.grids import grid, save_png
from mnist import Cell, Cells
from runs import trained
from set_judge import METRICS, halves, row, scores

DRAWN, SHOWN = 20_000, 60


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        data: the pictures.
        size: (height, width) of them.
        recipes: which.
        options: for all recipes, as ``limner train`` takes them, in one line.
        minutes: the budget of each.
        seed: of trainings.
        samples: judged at most.
        extractor: what looks at them.
        out: where finished cells, runs and pictures are kept.
    """

    data: str = "emoji"
    size: tuple[int, int] = (32, 32)
    recipes: tuple[str, ...] = ("stylegan2",)
    options: str = ""
    minutes: float = 10.0
    seed: int = 1
    samples: int = 5_000
    extractor: str = "squeezenet"
    out: Path = Path("build/colours")


def cell(args: Args, dataset: Dataset, recipe: str) -> Cell:
    run = args.out / f"{args.data.replace('/', '-')}-{recipe}-{args.minutes:g}min-{args.seed}"
    told = trained(
        run, recipe, args.data, args.minutes, args.seed, "--data.size", *map(str, args.size), *args.options.split()
    )
    model = limner.load(run)
    drawn = limner.sample(model, min(len(dataset), args.samples), seed=DRAWN)
    save_png(grid(drawn[:SHOWN], columns=10), run.with_suffix(".png"))
    return told | scores(drawn, dataset, args.extractor, (*METRICS, "originality"))


def main(args: Args) -> None:
    dataset = limner.open_dataset(DataConfig(args.data, size=args.size), progress=False)
    cells = Cells.of(args.out / f"{args.data.replace('/', '-')}-{args.minutes:g}min-{args.seed}.json")
    real = cells.keep("half beside half", lambda: halves(dataset, args.extractor))
    print("| recipe | images | fd | precision | recall | coverage | near copies |\n|---|---|---|---|---|---|---|")
    for recipe in args.recipes:
        told = cells.keep(recipe, lambda r=recipe: cell(args, dataset, r))  # type: ignore[misc]
        print(f"| `{recipe}` | {told['images']:,.0f} | {row(told)} | {told['originality']:.1%} |")
    print(f"| half beside half | | {row(real)} | |")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
