"""What is shown and judged of a model while it is trained, and at the end: samples, or pictures that it gives back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from limner.contracts import Codec, Model, Tokenizer
from limner.data import Dataset
from limner.data.levels import Pixels
from limner.distributed import World
from limner.features.extractor import as_tensor
from limner.metrics.classes import class_numbers
from limner.metrics.fidelity import psnr, ssim
from limner.metrics.intervals import bootstrap
from limner.sampling import sample, to_pixels
from limner.sampling.draw import as_they_draw

#: Pictures given back together.
_TOGETHER = 128


class Showing(Protocol):
    """All processes call the same methods.

    Attributes:
        draws: whether what is shown was drawn by the model, which may then be asked whether it copies.
    """

    draws: ClassVar[bool]

    def shown(self, model: Model, count: int) -> tuple[Pixels, int]:
        """About ``count`` pictures for a grid, the same of the run's every model, and how many are in a row."""

    def judged(self, model: Model, count: int, seed: int, guidance: float | None = None) -> Pixels:
        """Pictures to be judged; other ones for every seed, and of each class as many as the training pictures hold."""

    def measures(self, model: Model, judged: Pixels) -> dict[str, dict[str, Any]]:
        """Lines of measures that only such models have, by name."""


@dataclass(frozen=True)
class Samples:
    """What a model draws."""

    draws: ClassVar[bool] = True
    dataset: Dataset
    seed: int
    world: World

    def shown(self, model: Model, count: int) -> tuple[Pixels, int]:
        if model.labels and len(model.labels) < count:
            count -= count % len(model.labels)  # whole rows of classes
        images = sample(model, count, seed=self.seed, world=self.world)
        columns = len(model.labels) if 5 <= len(model.labels) <= 16 else math.ceil(math.sqrt(count * 1.6))
        return images, min(columns, count)

    def judged(self, model: Model, count: int, seed: int, guidance: float | None = None) -> Pixels:
        label = class_numbers(model.labels, self.dataset, count) if model.labels else None
        return sample(model, count, label=label, guidance=guidance, seed=self.seed + seed, world=self.world)

    def measures(self, model: Model, judged: Pixels) -> dict[str, dict[str, Any]]:
        return {}


@dataclass(frozen=True)
class Reconstructions:
    """What a codec gives back of the training pictures. Every process computes all of them."""

    draws: ClassVar[bool] = False
    dataset: Dataset
    seed: int
    world: World

    def shown(self, model: Model, count: int) -> tuple[Pixels, int]:
        """Rows of pictures, each above the row of what comes back of them."""
        across = max(1, min(math.ceil(math.sqrt(count)), len(self.dataset)))
        rows = max(1, min(count // (2 * across), len(self.dataset) // across))
        truth = self._chosen(rows * across)
        back = given_back(model, truth)
        pairs = [part[i * across : (i + 1) * across] for i in range(rows) for part in (truth, back)]
        return np.concatenate(pairs), across

    def judged(self, model: Model, count: int, seed: int, guidance: float | None = None) -> Pixels:
        return given_back(model, self._chosen(count))

    def measures(self, model: Model, judged: Pixels) -> dict[str, dict[str, Any]]:
        return fidelity(judged, self._chosen(len(judged)), self.seed) | self._use(model)

    def _chosen(self, count: int) -> Pixels:
        which = np.linspace(0, len(self.dataset) - 1, min(count, len(self.dataset))).astype(np.int64)
        return np.ascontiguousarray(self.dataset.images[which])

    def _use(self, model: Model) -> dict[str, dict[str, Any]]:
        if not isinstance(model.net, Tokenizer):
            return {}
        used = len(np.unique(np.concatenate([part.ravel() for part in _tokens(model, self._chosen(10_000))])))
        value = used / model.net.tokens
        receipt = f"{used:,} of {model.net.tokens:,} codes in {min(10_000, len(self.dataset)):,} training pictures"
        return {f"codebook_use_{model.net.tokens}": _row(value, value, value, "higher", receipt)}


@torch.no_grad()
def given_back(model: Model, pictures: Pixels) -> Pixels:
    """What a codec makes of pictures (N, H, W, C)."""
    net = model.net
    assert isinstance(net, Codec)
    device = next(net.parameters()).device
    with as_they_draw(net):
        parts = [
            to_pixels(net.decode(net.encode(as_tensor(part, device) * 2 - 1)), model.spec.bits)
            for part in _parts(pictures)
        ]
    return np.concatenate(parts)


@torch.no_grad()
def _tokens(model: Model, pictures: Pixels) -> list[np.ndarray]:
    net = model.net
    assert isinstance(net, Tokenizer)
    device = next(net.parameters()).device
    with as_they_draw(net):
        return [net.tokenize(as_tensor(part, device) * 2 - 1).cpu().numpy() for part in _parts(pictures)]


def _parts(pictures: Pixels) -> list[Pixels]:
    return [pictures[first : first + _TOGETHER] for first in range(0, len(pictures), _TOGETHER)]


def fidelity(back: Pixels, truth: Pixels, seed: int) -> dict[str, dict[str, Any]]:
    """PSNR and SSIM of pictures that were given back, with bootstrap intervals."""
    cpu = torch.device("cpu")
    rows = {}
    for name, measure in (("psnr", psnr), ("ssim", ssim)):
        values = torch.cat(
            [measure(as_tensor(a, cpu), as_tensor(b, cpu)) for a, b in zip(_parts(back), _parts(truth), strict=True)]
        )
        mean = float(values.mean())
        low, high = bootstrap(values, mean, seed=seed, stream=name)
        receipt = f"{len(values):,} pictures and what the codec gives back of them"
        rows[f"{name}_n{len(values)}"] = _row(mean, low, high, "higher", receipt)
    return rows


def _row(value: float, low: float, high: float, better: str, receipt: str) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "real": None, "better": better, "receipt": receipt}
