"""Codecs beside JPEG and WebP at equal bytes.

    LIMNER_MIRROR=DIR python benchmarks/codecs.py --data flowers --minutes 10
    LIMNER_MIRROR=DIR python benchmarks/codecs.py --recipe vq-codec --factors 4 --channels 8

A codec's latents are kept as whole numbers of --step deviations, packed by zlib; tokens of ``vq-codec`` in as few whole
bits as there are codes. JPEG and WebP, as small as Pillow makes them, have the quality whose mean size comes nearest to
that; less than a least size they cannot. Judged are --held pictures that no codec has trained on: PSNR, SSIM, and the
Fréchet distance of what comes back to the whole set.
"""

from __future__ import annotations

import io
import json
import math
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import tyro
from PIL import Image

import limner
from limner.contracts import Codec, Tokenizer
from limner.data import Dataset
from limner.data.build import chosen
from limner.features.extractor import as_tensor
from limner.metrics import evaluate
from limner.metrics.fidelity import psnr, ssim
from limner.sampling import to_pixels
from limner.training.grids import grid, save_png
from mnist import Cell, Cells
from pixels import eight_bit
from runs import trained

Pictures = npt.NDArray[np.uint8]
_SHOWN = 10


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        data: the pictures.
        recipe: kl-codec or vq-codec.
        factors: of the codecs ...
        channels: ... and of their latents, for each.
        minutes: of each training.
        step: of the numbers that latents are kept as, in deviations; 127 of them each way are enough.
        held: pictures kept from the trainings, and judged.
        extractor: what looks at the pictures.
        seed: of the trainings.
        out: where finished cells, runs and pictures are kept.
    """

    data: str = "flowers"
    recipe: Literal["kl-codec", "vq-codec"] = "kl-codec"
    factors: tuple[int, ...] = (4, 8, 8)
    channels: tuple[int, ...] = (4, 4, 16)
    minutes: float = 10.0
    step: float = 0.25
    held: int = 300
    extractor: str = "squeezenet"
    seed: int = 1
    out: Path = Path("build/codecs")


@torch.no_grad()
def through(run: Path, pictures: Pictures, step: float) -> tuple[Pictures, float]:
    """What comes back of latents as they are kept, and the mean bytes of a picture."""
    model = limner.load(run)
    net = model.net
    assert isinstance(net, Codec)
    back, sizes = [], []
    for first in range(0, len(pictures), 64):
        x = as_tensor(pictures[first : first + 64], torch.device("cpu")) * 2 - 1
        if isinstance(net, Tokenizer):
            tokens = net.tokenize(x)
            bits = math.ceil(math.log2(net.tokens))
            sizes += [math.ceil(tokens[0].numel() * bits / 8)] * len(x)
            z = net.embed(tokens)
        else:
            levels = (net.encode(x) / step).round().clamp(-127, 127)
            sizes += [len(zlib.compress(one.to(torch.int8).numpy().tobytes(), 9)) for one in levels]
            z = levels * step
        back.append(to_pixels(net.decode(z), 8))
    return np.concatenate(back), float(np.mean(sizes))


def packed(pictures: Pictures, kind: str, quality: int) -> tuple[Pictures, float]:
    """What comes back of pictures in this format, and the mean bytes of a picture."""
    back, sizes = [], []
    for picture in pictures:
        file = io.BytesIO()
        image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
        image.save(file, kind, quality=quality, optimize=True, method=6)  # each format's own way to be smallest
        sizes.append(file.tell())
        again = np.asarray(Image.open(file).convert("L" if picture.shape[2] == 1 else "RGB"))
        back.append(again.reshape(picture.shape))
    return np.stack(back), float(np.mean(sizes))


def as_small(pictures: Pictures, kind: str, size: float) -> tuple[Pictures, float, int]:
    """In the quality whose mean size is nearest to ``size``; also that quality."""
    low, high = 0, 100
    few = pictures[:: max(1, len(pictures) // 100)]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if packed(few, kind, middle)[1] <= size else (low, middle)
    best = min((low, high), key=lambda quality: abs(packed(few, kind, quality)[1] - size))
    return *packed(pictures, kind, best), best


def judged(back: Pictures, truth: Pictures, dataset: Dataset, extractor: str) -> dict[str, float]:
    cpu = torch.device("cpu")
    pairs = [(as_tensor(a[None], cpu), as_tensor(b[None], cpu)) for a, b in zip(back, truth, strict=True)]
    eyes = limner.load_extractor(extractor, shape=dataset.images.shape[1:])
    return {
        "psnr": float(np.mean([float(psnr(a, b)) for a, b in pairs])),
        "ssim": float(np.mean([float(ssim(a, b)) for a, b in pairs])),
        "fd": evaluate(back, dataset, extractor=eyes, metrics=("fd",)).value("fd"),
    }


def main(args: Args) -> None:
    dataset = limner.open_dataset(args.data, progress=False)
    seen = len(dataset) - args.held
    which = np.setdiff1d(np.arange(len(dataset)), chosen(len(dataset), seen))
    truth = np.ascontiguousarray(eight_bit(dataset.images)[which])
    cells = Cells.of(args.out / f"{args.data.replace('/', '-')}.json")
    shown = [truth[:_SHOWN]]

    def cell(make: Callable[[], tuple[Pictures, float, dict[str, Any]]]) -> Cell:
        back, size, about = make()
        shown.append(back[:_SHOWN])
        return {"bytes": size} | about | judged(back, truth, dataset, args.extractor)

    for factor, channels in zip(args.factors, args.channels, strict=True):
        name = f"{args.recipe} /{factor}, {channels} channels"
        run = args.out / f"{args.recipe}-{factor}-{channels}-{args.minutes:g}min-{args.seed}"
        trained(
            run, args.recipe, args.data, args.minutes, args.seed,
            "--net.factor", str(factor), "--net.channels", str(channels), "--data.limit", str(seen),
        )  # fmt: skip
        ours = cells.keep(name, lambda run=run: cell(lambda: (*through(run, truth, args.step), {})))  # type: ignore[misc]
        for kind in ("JPEG", "WEBP"):

            def beside(kind: str = kind, size: float = float(ours["bytes"])) -> tuple[Pictures, float, dict[str, Any]]:
                back, found, quality = as_small(truth, kind, size)
                return back, found, {"quality": quality}

            cells.keep(f"{kind} as small as {name}", lambda make=beside: cell(make))  # type: ignore[misc]
    save_png(grid(np.concatenate(shown), columns=_SHOWN), args.out / f"{args.recipe}.png")
    print("| what | bytes a picture | PSNR | SSIM | fd |\n|---|---|---|---|---|")
    for name, row in cells.done.items():
        print(f"| {name} | {row['bytes']:,.0f} | {row['psnr']:.2f} | {row['ssim']:.4f} | {row['fd']:.4g} |")
    print(json.dumps({"command": sys.argv}))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
