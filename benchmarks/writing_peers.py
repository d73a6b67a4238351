"""Digits written by ``imagegpt`` beside transformers' ImageGPT of the same width and depth, each from its cache.

    python benchmarks/writing_peers.py --size small --rounds 3

Both draw 28x28 values of 256 levels with fresh weights, take turns in one process, and sample at temperature 1. The
peer is ``ImageGPTForCausalImageModeling.generate`` as its model card has it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tyro

from limner.allocator import keep_freed_memory
from limner.contracts import Condition, ExtendConfig
from limner.models import GPTConfig
from limner.recipes import ExtendRecipe, Size, recipe
from limner.sampling.extending import written
from limner.training.costs import counted
from writing_speed import CLASSES, SPECS, network, seconds

WORDS = "28x28 L"


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        size: of both networks.
        batch: pictures drawn together.
        rounds: turns of each side.
    """

    size: Size = "small"
    batch: int = 16
    rounds: int = 3


def shape_of(size: Size) -> GPTConfig:
    settings = recipe("imagegpt", size)
    assert isinstance(settings, ExtendRecipe)
    assert isinstance(settings.net, GPTConfig)
    return settings.net


def peer(size: Size) -> Any:
    from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

    shape, spec = shape_of(size), SPECS[WORDS]
    config = ImageGPTConfig(
        vocab_size=2**spec.bits + 1,  # the last one begins a picture
        n_positions=spec.size[0] * spec.size[1],
        n_embd=shape.width,
        n_layer=shape.depth,
        n_head=shape.heads,
    )
    net: Any = ImageGPTForCausalImageModeling(config)
    return net.eval()


@torch.no_grad()
def sides(args: Args) -> tuple[Callable[[], object], Callable[[], object]]:
    net, other, samples = network("imagegpt", args.size, SPECS[WORDS]), peer(args.size), torch.arange(args.batch)
    sites = len(net.sites)
    cond = Condition(samples % CLASSES)
    begin = torch.full((args.batch, 1), other.config.vocab_size - 1)

    def ours() -> object:
        with torch.no_grad():
            return written(net, cond, samples, ExtendConfig(), seed=0)

    def theirs() -> object:
        out = other.generate(begin, max_length=sites + 1, do_sample=True, temperature=1.0, top_k=0, use_cache=True)
        assert out.shape == (args.batch, sites + 1)
        return out

    return ours, theirs


def main(args: Args) -> None:
    keep_freed_memory()
    ours, theirs = sides(args)
    for one in (ours, theirs):
        one()
    turns = [(seconds(ours), seconds(theirs)) for _ in range(args.rounds)]
    a, b = (args.batch / statistics.median(side) for side in zip(*turns, strict=True))
    ratio = statistics.median(y / x for x, y in turns)
    flops = [counted(one) / args.batch / 1e6 for one in (ours, theirs)]
    print("| `imagegpt` | pictures/s | transformers' | ratio (median) | MFLOPs a picture | the peer's |")
    print("|---|---|---|---|---|---|")
    print(f"| {args.size} | {a:.2f} | {b:.2f} | {ratio:.2f} × | {flops[0]:,.0f} | {flops[1]:,.0f} |")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
