"""What models that write keep of a picture while it is written, counted on networks without numbers, for
``docs/scaling.md``: a table of bytes by size, and how many pictures a limit of memory then holds.

    python benchmarks/kept.py --memory 8
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import tyro

from limner.contracts import ImageSpec
from limner.distributed import ALONE
from limner.recipes import SIZES, ExtendRecipe, recipe
from limner.sampling.draw import BATCH
from limner.sampling.keeping import fitting, kept_by

WRITTEN = {
    "imagegpt, 28×28 grey": ("imagegpt", ImageSpec(1, (28, 28), "L")),
    "imagegpt, 32×32 RGB": ("imagegpt", ImageSpec(3, (32, 32), "RGB")),
    "imagegpt, 64×64 RGB": ("imagegpt", ImageSpec(3, (64, 64), "RGB")),
    "vqgpt, 8×8 tokens": ("vqgpt", ImageSpec(1, (8, 8), "tokens", codes=512)),
}


@dataclass(frozen=True)
class Args:
    """What to count.

    Attributes:
        memory: GiB of the limit.
    """

    memory: float = 8.0


def main(args: Args) -> None:
    print(f"| | {' | '.join(SIZES)} |\n|---|{'---|' * len(SIZES)}")
    for what, (name, spec) in WRITTEN.items():
        cells = []
        for size in SIZES:
            settings = recipe(name, size)
            assert isinstance(settings, ExtendRecipe)
            with torch.device("meta"):
                kept = kept_by(settings.net.autoregressor(spec, 10))
            batch = fitting(kept, BATCH, args.memory, torch.device("meta"), ALONE).batch
            cells.append(f"{kept.each / 2**20:,.1f} MiB, {batch}")
        print(f"| {what} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(tyro.cli(Args))
