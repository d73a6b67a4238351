"""Bits a dimension of held-out pictures, by the probability flow of models trained on the others.

    LIMNER_MIRROR=DIR python benchmarks/likelihood.py --data mnist --limit 50000 --recipe edm --minutes 10

limner's own command trains on --limit pictures of the set; --count of the others are judged.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

import limner
from limner.data import DataConfig, Dataset
from limner.metrics.intervals import bootstrap


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        data: the pictures.
        limit: so many are trained on.
        recipe: what is trained, with its defaults.
        minutes: of training.
        count: held-out pictures that are judged.
        steps: of the ODE.
        out: where runs are kept; one that is there is judged again without being trained.
    """

    data: str = "mnist"
    limit: int = 50_000
    recipe: str = "edm"
    minutes: float = 10.0
    count: int = 500
    steps: int = 32
    out: Path = Path("build/likelihood")


def held_out(whole: Dataset, seen: Dataset) -> np.ndarray:
    """Rows of pictures of which none was seen, duplicates included."""
    known = {hashlib.blake2b(picture.tobytes()).digest() for picture in seen.images}
    rows = [i for i, one in enumerate(whole.images) if hashlib.blake2b(one.tobytes()).digest() not in known]
    return np.array(rows)


def main(args: Args) -> None:
    run = args.out / f"{args.data}-{args.recipe}-{args.minutes:g}min"
    source = DataConfig(args.data, limit=args.limit)
    if not (run / "snapshot").exists():
        limner.train(args.recipe, source, out=run, minutes=args.minutes)
    whole = limner.open_dataset(args.data, progress=False)
    rows = held_out(whole, limner.open_dataset(source, progress=False))
    chosen = rows[np.linspace(0, len(rows) - 1, args.count).astype(int)]
    assert whole.label is not None
    bound = limner.log_likelihood(limner.load(run), whole.images[chosen], label=whole.label[chosen], steps=args.steps)
    bits = bound.bits_per_dimension(math.prod(whole.spec.shape))
    low, high = bootstrap(bits, float(bits.mean()), seed=0, stream="likelihood")
    print("| set | recipe | minutes | held out | bits a dimension | 95 % interval |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {args.data} | {args.recipe} | {args.minutes:g} | {args.count} of {len(rows):,} | {float(bits.mean()):.3f} "
        f"({bound.kind}) | {low:.3f} to {high:.3f} |"
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
