"""Drawing by models that write site by site: from what they keep, beside a whole pass of the network for every site.

    python benchmarks/writing_speed.py --recipes pixelcnn++ --size small --rounds 5

Both sides use the same network with fresh weights, take turns in one process, and draw the same pictures. Of the whole
passes only ``--passes`` are made each turn, at sites spread over the picture, and the time of one is multiplied by the
number of sites: a pass costs the same at each.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
import tyro

from limner import random
from limner.contracts import Autoregressor, Condition, ExtendConfig, ImageSpec
from limner.recipes import ExtendRecipe, Size, recipe
from limner.sampling.extending import written
from limner.training.costs import counted

SPECS = {"28x28 L": ImageSpec(1, (28, 28), "L"), "32x32 RGB": ImageSpec(3, (32, 32), "RGB")}
CLASSES = 10


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        recipes: which.
        size: of the networks.
        batch: pictures drawn together.
        rounds: turns of each side.
        passes: whole passes of a turn.
    """

    recipes: tuple[str, ...] = ("pixelcnn++",)
    size: Size = "small"
    batch: int = 16
    rounds: int = 5
    passes: int = 8


def network(name: str, size: Size, spec: ImageSpec) -> Autoregressor:
    settings = recipe(name, size)
    assert isinstance(settings, ExtendRecipe)
    with random.scoped(0, "init"):
        return settings.net.autoregressor(spec, CLASSES).eval()


def seconds(work: object) -> float:
    begun = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - begun


@torch.no_grad()
def row(args: Args, name: str, words: str) -> str:
    spec = SPECS[words]
    net = network(name, args.size, spec)
    samples, sites = torch.arange(args.batch), len(net.sites)
    cond = Condition(samples % CLASSES)

    def kept() -> torch.Tensor:
        return written(net, cond, samples, ExtendConfig(), seed=0)

    values = kept()

    def whole() -> None:
        for _ in range(args.passes):
            net.log_prob(values, cond)

    turns = [(seconds(kept), seconds(whole) * sites / args.passes) for _ in range(args.rounds)]
    a, b = (statistics.median(side) for side in zip(*turns, strict=True))
    flops, passes = counted(kept) / args.batch, counted(lambda: net.log_prob(values, cond)) / args.batch * sites
    return (
        f"| `{name}`, {args.size} | {words} | {args.batch / a:.1f} | {args.batch / b:.3f} | "
        f"{statistics.median(y / x for x, y in turns):.0f} × | {flops / 1e6:,.0f} | {passes / 1e6:,.0f} |"
    )


def main(args: Args) -> None:
    what = "what is kept, pictures/s | whole passes, pictures/s | ratio (median)"
    print(f"| model | pictures | {what} | MFLOPs a picture, kept | whole |")
    print("|---|---|---|---|---|---|---|")
    for name in args.recipes:
        for words in SPECS:
            print(row(args, name, words), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
