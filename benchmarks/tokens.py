"""Products and attention of tokens on a processor: as torch's layers have them, and as limner's do.

    python benchmarks/tokens.py --rounds 30

Forward and backward passes, medians of turns that the sides take one after the other. What a training step has in its
caches depends on the whole step: ``benchmarks/speed.py`` has whole steps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from limner.allocator import keep_freed_memory
from limner.models.attention import attend
from limner.models.layers import pointwise

#: (pictures, tokens, features in, features out) of products; (pictures, heads, tokens, features of a head, whether
#: tokens hear only those up to themselves) of attention.
PRODUCTS = [(64, 64, 96, 96), (64, 64, 96, 256), (64, 64, 256, 96), (64, 64, 192, 512), (16, 784, 96, 256)]
ATTENTIONS = [
    (64, 3, 64, 32, False), (32, 3, 144, 64, False), (32, 3, 256, 32, False), (16, 3, 784, 32, False),
    (64, 3, 49, 48, True), (16, 3, 784, 32, True), (16, 6, 784, 64, True),
]  # fmt: skip


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        rounds: turns of each side.
    """

    rounds: int = 30


def milliseconds(rounds: int, *sides: Callable[[], object]) -> list[float]:
    """Medians."""
    told: list[list[float]] = [[] for _ in sides]
    for turn in range(rounds + 3):
        for side, times in zip(sides, told, strict=True):
            begun = time.perf_counter()
            side()
            if turn >= 3:
                times.append(1e3 * (time.perf_counter() - begun))
    return [statistics.median(times) for times in told]


def both_passes(forward: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], object]:
    grad = torch.randn_like(forward(*inputs))
    return lambda: torch.autograd.grad(forward(*inputs), inputs, grad)


def given(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape).to(dtype).requires_grad_()


def products(rounds: int) -> None:
    print("| pictures, tokens, in, out | nn.Linear, GFLOP/s | limner's | times as fast |\n|---|---|---|---|")
    for n, tokens, into, out in PRODUCTS:
        inputs = given(n, tokens, into, dtype=torch.float32), given(out, into, dtype=torch.float32)
        theirs, ours = milliseconds(
            rounds, both_passes(F.linear, *inputs), both_passes(lambda x, w: pointwise(x, w, None), *inputs)
        )
        work = 6 * n * tokens * into * out / 1e6
        print(f"| {n}, {tokens}, {into}, {out} | {work / theirs:.0f} | {work / ours:.0f} | {theirs / ours:.2f} |")


def attentions(rounds: int) -> None:
    print("| pictures, heads, tokens, features, causal | precision | torch's, ms | limner's | times as fast |")
    print("|---|---|---|---|---|")
    for n, heads, tokens, dim, causal in ATTENTIONS:
        for dtype in (torch.float32, torch.bfloat16):
            # As networks have them: tokens before heads.
            q, k, v = (given(n, tokens, heads, dim, dtype=dtype).transpose(1, 2) for _ in range(3))
            theirs, ours = milliseconds(
                rounds,
                both_passes(partial(F.scaled_dot_product_attention, is_causal=causal), q, k, v),
                both_passes(partial(attend, causal=causal), q, k, v),
            )
            name = str(dtype).removeprefix("torch.")
            shape = f"{n}, {heads}, {tokens}, {dim}, {'yes' if causal else 'no'}"
            print(f"| {shape} | {name} | {theirs:.1f} | {ours:.1f} | {theirs / ours:.2f} |")


def main(args: Args) -> None:
    keep_freed_memory()
    products(args.rounds)
    print()
    attentions(args.rounds)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
