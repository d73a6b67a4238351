"""Bits a dimension of held-out digits, of limner's recipes that write beside the networks of pytorch-generative: equal
minutes, the same pictures, all 256 levels of grey.

    LIMNER_MIRROR=DIR python benchmarks/likelihood_peers.py --minutes 10 30

The peers are built here from what EugenHotaj/pytorch-generative publishes to reproduce its figures: its PixelCNN (15
blocks, 32 channels, batches of 256, Adam 1e-3) and its ImageGPT (8 blocks, 64 channels, 2 heads, batches of 64, Adam
5e-3), the rate of either multiplied by 0.999977 at each step. Its task is one bit a pixel, of digits that are made
black or white at random; here its last layer says 256 logits, and its loss is the same sum over a picture's pixels.
Attention is torch's own, which says the same in less time and memory. There the input of each block is added twice to
what the block says, so that it doubles from block to block: both networks are trained as they are, and again with
inputs that are added once. Its gated network costs some fifty times what its PixelCNN does and is left out.

A peer's rate knows nothing of the end, so that each is trained once, for the longest, and judged after every budget; a
recipe of limner, which anneals, is trained for each. No side knows classes. All train on --limit digits, and --count of
the others are judged. Finished cells and runs are kept in --out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

import limner
from likelihood import held_out
from limner.data import DataConfig
from limner.metrics.intervals import bootstrap
from mnist import Cell, Cells
from pixels import eight_bit
from runs import trained

Pictures = npt.NDArray[np.uint8]
LEVELS = 256
#: Held-out pictures that a peer looks at together.
TOGETHER = 50


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        data: the pictures, of one channel.
        limit: so many are trained on.
        count: held-out pictures that are judged.
        recipes: which of limner.
        peers: which of the others.
        minutes: budgets.
        seed: of each training.
        out: where finished cells and runs are kept.
    """

    data: str = "mnist"
    limit: int = 50_000
    count: int = 1_000
    recipes: tuple[str, ...] = ("pixelcnn++", "imagegpt", "pixelcnn")
    peers: tuple[str, ...] = ("PixelCNN", "PixelCNN, added once", "ImageGPT", "ImageGPT, added once")
    minutes: tuple[float, ...] = (10.0, 30.0)
    seed: int = 1
    out: Path = Path("build/likelihood-peers")


class Causal(nn.Conv2d):
    """A convolution that hears the rows above a pixel, what is left of it, and with ``own`` itself."""

    mask: Tensor

    def __init__(self, into: int, out: int, kernel: int, *, own: bool) -> None:
        super().__init__(into, out, kernel, padding=kernel // 2)
        place = torch.arange(kernel**2).reshape(kernel, kernel)
        self.register_buffer("mask", (place < kernel**2 // 2 + own).float())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class PeerPixelCNN(nn.Module):
    """Grey pictures (N, 1, H, W) in [0, 1] to the logits (N, 256, H, W) of each pixel given those before it; to what a
    block says its input is added so many ``times``."""

    def __init__(self, times: int, blocks: int = 15, width: int = 32, head: int = 32) -> None:
        super().__init__()
        half, self.times = width // 2, times
        self.begin = Causal(1, width, 7, own=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(), nn.Conv2d(width, half, 1),
                nn.ReLU(), Causal(half, half, 3, own=True),
                nn.ReLU(), nn.Conv2d(half, width, 1),
            )
            for _ in range(blocks)
        )  # fmt: skip
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(width, head, 1), nn.ReLU(), nn.Conv2d(head, LEVELS, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.begin(x)
        for block in self.blocks:
            x = self.times * x + block(x)
        out: Tensor = self.head(x)
        return out


class Normed(nn.LayerNorm):
    """Over the channels of maps (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class PeerBlock(nn.Module):
    """What causal attention over all pixels, and two products with a GELU between them, add to x (N, C, H, W)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm0, self.norm1 = Normed(width), Normed(width)
        self.heard, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        self.mix = nn.Sequential(nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, width, *_ = x.shape
        heard = self.heard(self.norm0(x)).reshape(n, 3, self.heads, width // self.heads, -1).transpose(3, 4)
        query, key, value = heard.unbind(1)
        told = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        more = self.out(told.transpose(2, 3).reshape(x.shape))
        out: Tensor = more + self.mix(self.norm1(x + more))
        return out


class PeerImageGPT(nn.Module):
    """The same as the other's, of pictures of this size."""

    def __init__(self, times: int, size: tuple[int, int], blocks: int = 8, width: int = 64, heads: int = 2) -> None:
        super().__init__()
        self.times = times
        self.places = nn.Parameter(torch.zeros(1, 1, *size))
        self.begin = Causal(1, width, 3, own=False)
        self.blocks = nn.ModuleList(PeerBlock(width, heads) for _ in range(blocks))
        self.head = nn.Sequential(Normed(width), nn.Conv2d(width, LEVELS, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.begin(x + self.places)
        for block in self.blocks:
            x = self.times * x + block(x)
        out: Tensor = self.head(x)
        return out


@dataclass(frozen=True)
class Peer:
    """How a peer learns.

    Attributes:
        build: its network, for pictures of a size.
        batch: pictures a step.
        lr: of Adam, at first.
        decay: of the rate, at each step.
    """

    build: Callable[[tuple[int, int]], nn.Module]
    batch: int
    lr: float
    decay: float = 0.999977


def pixelcnn(times: int) -> Peer:
    return Peer(lambda size: PeerPixelCNN(times), 256, 1e-3)


def imagegpt(times: int) -> Peer:
    return Peer(partial(PeerImageGPT, times), 64, 5e-3)


PEERS = {
    "PixelCNN": pixelcnn(2),
    "PixelCNN, added once": pixelcnn(1),
    "ImageGPT": imagegpt(2),
    "ImageGPT, added once": imagegpt(1),
}


def nats(net: nn.Module, pictures: Tensor) -> Tensor:
    """-ln p of pictures (N, H, W, 1) of levels, (N,)."""
    levels = pictures.permute(0, 3, 1, 2)
    return F.cross_entropy(net(levels / (LEVELS - 1)), levels[:, 0].long(), reduction="none").flatten(1).sum(1)


def peer_cells(args: Args, peer: Peer, seen: Pictures, judged: Pictures) -> Cell:
    """What judging takes counts for nobody."""
    torch.manual_seed(args.seed)
    pictures, steps, told = torch.from_numpy(seen), 0, {}
    net = peer.build(seen.shape[1:3])
    optimizer = torch.optim.Adam(net.parameters(), lr=peer.lr)
    rate = torch.optim.lr_scheduler.ExponentialLR(optimizer, peer.decay)
    wall = 0.0
    for minutes in sorted(args.minutes):
        begun = time.monotonic() - wall
        while time.monotonic() - begun < 60 * minutes:
            optimizer.zero_grad()
            nats(net, pictures[torch.randint(len(pictures), (peer.batch,))]).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rate.step()
            steps += 1
        wall = time.monotonic() - begun
        told[key(minutes)] = {"images": steps * peer.batch, "wall": wall} | peer_verdict(net, judged)
    return {"by minutes": told}


def peer_verdict(net: nn.Module, judged: Pictures) -> Cell:
    with torch.no_grad():
        told = torch.cat([nats(net, part) for part in torch.split(torch.from_numpy(judged), TOGETHER)])
    return verdict(told.double() / (judged[0].size * math.log(2)))


def our_cells(args: Args, recipe: str, judged: Pictures) -> Cell:
    return {"by minutes": {key(minutes): our_cell(args, recipe, minutes, judged) for minutes in args.minutes}}


def our_cell(args: Args, recipe: str, minutes: float, judged: Pictures) -> Cell:
    run = args.out / f"{recipe}-{key(minutes)}min-{args.seed}"
    told = trained(run, recipe, args.data, minutes, args.seed, "--data.limit", str(args.limit), "--no-conditional")
    bound = limner.log_likelihood(limner.load(run), judged)
    return told | verdict(bound.bits_per_dimension(judged[0].size))


def key(minutes: float) -> str:
    return f"{minutes:g}"


def verdict(bits: Tensor) -> Cell:
    """The mean of bits a dimension of pictures (N,), and the interval of it."""
    low, high = bootstrap(bits, float(bits.mean()), seed=0, stream="likelihood")
    return {"bits": float(bits.mean()), "low": low, "high": high}


def main(args: Args) -> None:
    whole = limner.open_dataset(args.data, progress=False)
    seen = limner.open_dataset(DataConfig(args.data, limit=args.limit), progress=False)
    rows = held_out(whole, seen)
    judged = eight_bit(np.array(whole.images[rows[np.linspace(0, len(rows) - 1, args.count).astype(int)]]))
    cells = Cells.of(args.out / "cells.json")
    suffix = f" {' '.join(map(key, args.minutes))} min seed {args.seed}"
    grey = eight_bit(np.array(seen.images))
    makes = {f"`{name}`": partial(our_cells, args, name, judged) for name in args.recipes}
    makes |= {
        f"pytorch-generative's {name}": partial(peer_cells, args, PEERS[name], grey, judged) for name in args.peers
    }
    lines = [
        "| side | minutes | images | wall s | bits a dimension | 95 % interval |",
        "|---|---|---|---|---|---|",
    ]
    for name, make in makes.items():
        for minutes, cell in cells.keep(name + suffix, make)["by minutes"].items():
            lines.append(
                f"| {name} | {minutes} | {cell['images']:,} | {cell['wall']:.0f} | {cell['bits']:.3f} | "
                f"{cell['low']:.3f} to {cell['high']:.3f} |"
            )
    print("\n".join(lines))
    print(f"\n{len(judged):,} of {len(rows):,} held-out pictures, {len(seen.images):,} trained on.")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
