"""``vae`` beside pythae's VAE, ``dcgan`` beside the DCGAN of PyTorch's examples: equal minutes, one judge, one run.

    LIMNER_MIRROR=DIR python benchmarks/generator_peers.py --data fashion-mnist --minutes 10

The peers are built here from what they publish: pythae's convolutional MNIST networks (code 16, Adam 1e-3, batches of
100, half the squared error beside the divergence), and the example's (64x64 pictures, 100 numbers, width 64, Adam 2e-4
with a beta of 0.5, batches of 64), whose pictures are brought to the data's size to be judged; ``--dcgan-size 32``
takes the same network without its largest maps, which is several times as fast. No side knows classes. Finished cells
are kept in --out.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

import limner
from limner.data import Dataset
from limner.data.cache import cache_root
from limner.metrics import evaluate
from limner.sampling import to_pixels
from limner.training.grids import grid, save_png
from mnist import Cell, Cells

Pictures = npt.NDArray[np.uint8]
METRICS = ("fd", "precision", "recall", "coverage")
#: The seed of the judged samples, how many of them are in a picture, and how many a peer draws together.
DRAWN, SHOWN, TOGETHER = 20_000, 100, 250


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        data: the pictures, of at most 32 pixels a side and one channel.
        recipes: which of limner.
        minutes: of each training.
        seed: of each training.
        samples: judged.
        extractors: what looks at them.
        dcgan_size: of the pictures that the example's network draws.
        out: where finished cells, runs and pictures are kept.
    """

    data: str = "fashion-mnist"
    recipes: tuple[Literal["vae", "dcgan"], ...] = ("vae", "dcgan")
    minutes: float = 10.0
    seed: int = 1
    samples: int = 5_000
    extractors: tuple[str, ...] = ("lenet", "wavelets")
    dcgan_size: Literal[64, 32] = 64
    out: Path = Path("build/generator-peers")


class PythaeVAE(nn.Module):
    """pythae's Encoder_Conv_AE_MNIST and Decoder_Conv_AE_MNIST (Chadebec et al. 2022), pictures (N, 1, 28, 28) in
    [0, 1]."""

    def __init__(self, code: int = 16) -> None:
        super().__init__()
        widths = [1, 128, 256, 512, 1024]
        down = [
            nn.Sequential(nn.Conv2d(a, b, 4, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(widths)
        ]
        self.encoder, self.code = nn.Sequential(*down, nn.Flatten()), code
        self.mean, self.log_variance = nn.Linear(1024, code), nn.Linear(1024, code)
        self.project = nn.Linear(code, 1024 * 4 * 4)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(1024, 512, 3, stride=2, padding=1), nn.BatchNorm2d(512), nn.ReLU(),
            nn.ConvTranspose2d(512, 256, 3, stride=2, padding=1, output_padding=1), nn.BatchNorm2d(256), nn.ReLU(),
            nn.ConvTranspose2d(256, 1, 3, stride=2, padding=1, output_padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def decode(self, z: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.project(z).reshape(-1, 1024, 4, 4))
        return out

    def loss(self, x: Tensor) -> Tensor:
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        back = self.decode(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
        error = 0.5 * (back - x).square().flatten(1).sum(1)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
        charged: Tensor = (error + divergence).mean()
        return charged


def example_dcgan(size: int, code: int = 100, width: int = 64) -> tuple[nn.Module, nn.Module]:
    """Generator and critic of pytorch/examples/dcgan, for grey pictures of this size."""
    levels = int(math.log2(size)) - 2
    widths = [width * 2**i for i in range(levels)]
    up: list[nn.Module] = []
    for into, out in pairwise([code, *reversed(widths)]):
        first = into == code
        up += [nn.ConvTranspose2d(into, out, 4, 1 if first else 2, 0 if first else 1, bias=False)]
        up += [nn.BatchNorm2d(out), nn.ReLU()]
    generator = nn.Sequential(*up, nn.ConvTranspose2d(width, 1, 4, 2, 1, bias=False), nn.Tanh())
    down: list[nn.Module] = [nn.Conv2d(1, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for into, out in pairwise(widths):
        down += [nn.Conv2d(into, out, 4, 2, 1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(0.2)]
    critic = nn.Sequential(*down, nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False))
    for part in [*generator.modules(), *critic.modules()]:
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, 0.0, 0.02)
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
    return generator, critic


@dataclass(frozen=True)
class Peer:
    """How a peer learns and draws.

    Attributes:
        batch: pictures a step.
        step: one step on pictures (N, 1, H, W) in [0, 1].
        draw: so many pictures (n, 1, h, w) in [-1, 1].
    """

    batch: int
    step: Callable[[Tensor], None]
    draw: Callable[[int], Tensor]


def pythae() -> Peer:
    net = PythaeVAE()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        net.loss(x).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def draw(n: int) -> Tensor:
        out: Tensor = net.eval().decode(torch.randn(n, net.code)) * 2 - 1
        return out

    return Peer(100, step, draw)


def example(size: int) -> Peer:
    generator, critic = example_dcgan(size)
    optimizers = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (critic, generator)]

    def told(scores: Tensor, real: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(scores.flatten(), torch.full((len(scores),), real))

    def step(x: Tensor) -> None:
        real = F.interpolate(x, size=(size, size), mode="bilinear") * 2 - 1
        made = generator(torch.randn(len(x), 100, 1, 1))
        critic.zero_grad()
        told(critic(real), 1.0).backward()  # type: ignore[no-untyped-call]
        told(critic(made.detach()), 0.0).backward()  # type: ignore[no-untyped-call]
        optimizers[0].step()
        generator.zero_grad()
        told(critic(made), 1.0).backward()  # type: ignore[no-untyped-call]
        optimizers[1].step()

    def draw(n: int) -> Tensor:
        made: Tensor = generator.eval()(torch.randn(n, 100, 1, 1))
        return made

    return Peer(64, step, draw)


def trained_peer(args: Args, dataset: Dataset, make: Callable[[], Peer]) -> tuple[Pictures, Cell]:
    begun = time.monotonic()
    torch.manual_seed(args.seed)
    peer, seen = make(), 0
    images = torch.from_numpy(np.array(dataset.images)).permute(0, 3, 1, 2)
    while time.monotonic() - begun < 60 * args.minutes:
        which = torch.randint(len(images), (peer.batch,))
        peer.step(images[which].float() / 255)
        seen += peer.batch
    torch.manual_seed(DRAWN)
    size = dataset.spec.size
    with torch.no_grad():
        parts = [peer.draw(min(TOGETHER, args.samples - at)) for at in range(0, args.samples, TOGETHER)]
        drawn = torch.cat([F.interpolate(part, size=size, mode="bilinear", antialias=True) for part in parts])
    return to_pixels(drawn.clamp(-1, 1), 8), {"images": seen}


def trained(args: Args, recipe: str) -> tuple[Pictures, Cell]:
    run = args.out / f"{recipe}-{args.minutes:g}min-{args.seed}"
    if not (run / "done.json").exists():
        command = [sys.executable, "-m", "limner.cli", "train", recipe, "--data", args.data, "--out", str(run),
                   "--minutes", f"{args.minutes:g}", "--seed", str(args.seed), "--no-conditional",
                   "--watch.judge", "0", "--json"]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.PIPE)
    images = json.loads((run / "done.json").read_text())["images"]
    return limner.sample(limner.load(run), args.samples, seed=DRAWN), {"images": images}


def main(args: Args) -> None:
    dataset = limner.open_dataset(args.data, progress=False)
    cells = Cells.of(args.out / "cells.json")
    eyes = {name: limner.load_extractor(name, shape=dataset.images.shape[1:]) for name in args.extractors}

    def cell(name: str, train: Callable[[], tuple[Pictures, Cell]]) -> Cell:
        pictures, about = train()
        save_png(grid(pictures[:SHOWN], columns=10), args.out / f"{name.replace(' ', '-')}.png")
        told = dict(about)
        for extractor, one in eyes.items():
            metrics = ("fd",) if extractor == "wavelets" else METRICS
            report = evaluate(pictures, dataset, extractor=one, metrics=metrics, cache=cache_root(None) / "measures")
            told |= {f"{metric} {extractor}": report.value(metric) for metric in metrics}
        return told

    sides = {
        "vae": ("pythae VAE", pythae),
        "dcgan": (f"example DCGAN {args.dcgan_size}", lambda: example(args.dcgan_size)),
    }
    columns: list[str] = []
    lines: list[str] = []
    for recipe in args.recipes:
        name, make = sides[recipe]
        suffix = f" {args.minutes:g} min seed {args.seed}"
        theirs = cells.keep(name + suffix, lambda n=name, m=make: cell(n, lambda: trained_peer(args, dataset, m)))  # type: ignore[misc]
        ours = cells.keep(recipe + suffix, lambda r=recipe: cell(r, lambda: trained(args, r)))  # type: ignore[misc]
        columns = columns or [key for key in ours if key not in ("images", "load_before")]
        for side, row in ((recipe, ours), (name, theirs)):
            values = " | ".join(f"{row[key]:.4g}" for key in columns)
            lines.append(f"| {side} | {row['images']:,} | {row['images'] / theirs['images']:.2f} | {values} |")
    print(f"| side | images | of the peer's | {' | '.join(columns)} |\n{'|---' * (3 + len(columns))}|")
    print("\n".join(lines))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
