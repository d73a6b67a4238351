"""Whether pictures show what their captions say, exactly: dalle on builtin:shapes, whose pictures can be read back.

    python benchmarks/captions.py --codec runs/codec --minutes 10

Held-out captions are of scenes of another seed that no training picture has. The bound is what the codec gives back of
those scenes' own pictures: what reads them is not at fault (``tests/data/test_shapes.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import tyro

import limner
from limner.data.shapes import describe, draw_many, make_scenes, parse, read_many
from limner.metrics.intervals import bootstrap
from limner.training.grids import grid, save_png
from limner.training.showing import given_back
from limner.training.snapshot import load
from pixels import eight_bit
from runs import trained

#: Of the held-out scenes; trainings have seed 0 unless they are told otherwise.
HELD_SEED = 1_000_003


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        run: a trained dalle; trained here, by --codec and --minutes, where there is none.
        codec: a run of vq-codec on the same pictures, trained here where there is none.
        minutes: of training dalle, and half of them the codec.
        size: of dalle.
        side: of the pictures, in pixels.
        n: held-out captions.
        guidances: to draw with.
        seed: of the training and of the samples.
        out: a grid of the first captions' pictures, a row for each guidance, the last of real pictures.
    """

    run: Path = Path("runs/captions-dalle")
    codec: Path = Path("runs/captions-codec")
    minutes: float = 10.0
    size: str = "tiny"
    side: int = 32
    n: int = 500
    guidances: tuple[float, ...] = (1.0, 2.0, 4.0)
    seed: int = 0
    out: Path = Path("captions.png")


def shares(images: npt.NDArray[np.uint8], captions: list[str], seed: int) -> str:
    """Of pictures that show exactly what is said, with a bootstrap interval; and of those that show as many objects,
    all of the kinds that are said, wherever they are."""

    facts = [parse(caption) for caption in captions]
    readings = read_many(images)
    exact = torch.tensor([float(one.shows(fact)) for one, fact in zip(readings, facts, strict=True)])
    kinds = np.mean(
        [
            not one.unknown and sorted(str(item.kind) for item in one.objects) == sorted(map(str, fact.kinds))
            for one, fact in zip(readings, facts, strict=True)
        ]
    )
    low, high = bootstrap(exact, float(exact.mean()), seed=seed, stream="captions")
    return f"{100 * float(exact.mean()):.1f} % [{100 * low:.1f}, {100 * high:.1f}] | {100 * kinds:.1f} %"


def main(args: Args) -> None:
    data = ["--data.size", str(args.side), str(args.side)]
    if not args.run.exists():
        if not args.codec.exists():
            trained(args.codec, "vq-codec", "builtin:shapes", args.minutes / 2, args.seed, "--size", args.size, *data)
        trained(
            args.run, "dalle", "builtin:shapes", args.minutes, args.seed,
            "--codec", str(args.codec), "--size", args.size, *data,
        )  # fmt: skip
    model = load(args.run)
    known = set(limner.open_dataset("builtin:shapes").captions or ())
    scenes = [one for one in make_scenes(2 * args.n, seed=HELD_SEED) if describe(one) not in known][: args.n]
    captions = [describe(one) for one in scenes]
    real = draw_many(scenes, model.spec.size)
    codec = load(args.run / "snapshot" / "codec")
    rows = [(f"guidance {w:g}", limner.sample(model, len(captions), prompt=captions, seed=args.seed, guidance=w))
            for w in args.guidances]  # fmt: skip
    rows += [("real pictures through the codec", eight_bit(given_back(codec, real))), ("real pictures", real)]
    print(f"{len(captions)} captions that no training picture has\n")
    print("| pictures | show exactly what is said | objects alone |\n|---|---|---|")
    for name, images in rows:
        print(f"| {name} | {shares(images, captions, args.seed)} |")
    save_png(grid(np.concatenate([images[:8] for _, images in rows]), columns=min(8, len(captions))), args.out)
    print("\n" + "\n".join(captions[:8]))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
