"""Reads characters: the judge of whether a generator drew the glyph it was asked for.

A small convolutional network, trained in seconds on real renderings (:mod:`limner.data.glyphs`) with shifts, turns,
blur, noise and faded ink, so that it is no stricter on a generated picture than a person is. Measure it on typefaces
it never saw before you trust it (``benchmarks/glyph_judge.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from limner import random
from limner.errors import UserError
from limner.features.extractor import as_tensor

Pictures = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

#: Characters that share a shape, and that a person tells apart by size or by the word around them. In a typeface
#: without serifs I and l are one upright stroke, and 1 is nearly one; the zero of some typefaces is a capital O.
MERGED: tuple[str, ...] = ("Cc", "Oo0", "Ss", "Uu", "Vv", "Ww", "Xx", "Zz", "1Il")

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_MOST_SIDE, _MOST_WIDTH = 1024, 256
_FORMAT = "limner.glyph_reader.1"


@dataclass(frozen=True)
class ReaderTraining:
    """How a reader is trained; the strengths are the most that augmentation changes a picture by.

    Attributes:
        epochs: passes over the renderings.
        batch: renderings a step.
        rate: the peak of the one-cycle learning rate.
        decay: AdamW's weight decay.
        smoothing: label smoothing.
        shift: in shares of the side.
        turn: in degrees.
        stretch: size, width and slant, as shares.
        blur: standard deviation in pixels.
        noise: standard deviation, where black to white is 1.
        fade: the least that ink keeps of its lightness.
    """

    epochs: int = 3
    batch: int = 256
    rate: float = 4e-3
    decay: float = 0.05
    smoothing: float = 0.05
    shift: float = 0.06
    turn: float = 8.0
    stretch: float = 0.15
    blur: float = 0.8
    noise: float = 0.12
    fade: float = 0.6


class GlyphReader(nn.Module):
    """Pictures to class numbers.

    Args:
        labels: the characters in the order of their numbers.
        size: (height, width) that the network sees; other pictures are resized to it, antialiased.
        width: channels of the first layer.
    """

    def __init__(self, labels: tuple[str, ...], size: tuple[int, int], width: int = 16) -> None:
        super().__init__()
        self.labels, self.size, self.width = labels, size, width
        # The first layer halves the picture: at full size it would take most of the time. Channels last: on a CPU
        # convolutions this narrow run a quarter faster so.
        self.features = nn.Sequential(
            *_layer(nn.Conv2d(1, width, 5, stride=2, padding=2, bias=False)),
            *_layer(nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)),
            nn.MaxPool2d(2),
            *_layer(nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False)),
            nn.AdaptiveMaxPool2d(3),
            nn.Flatten(),
            nn.Dropout(0.2),
        )
        self.features.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head = nn.Linear(4 * width * 9, len(labels))
        self._merge = merge_table(labels)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of ink (N, 1, H, W) in [0, 1], at the network's size."""
        logits: Tensor = self.head(self.features(x))
        return logits

    @torch.inference_mode()
    def read(self, images: Pictures, *, batch: int = 512) -> Numbers:
        """Class numbers (N,) int64 of pictures (N, H, W, C) uint8, light on dark, grey or RGB."""
        training = self.training
        self.eval()
        device = self.head.weight.device
        parts = [
            self(_ink(images[i : i + batch], self.size).to(device)).argmax(1).cpu()
            for i in range(0, len(images), batch)
        ]
        self.train(training)
        return torch.cat(parts).numpy() if parts else np.empty(0, np.int64)

    def merged(self, numbers: Numbers) -> Numbers:
        """Numbers with :data:`MERGED` characters made one: each becomes the lowest number of its group."""
        return self._merge[numbers]

    def save(self, path: Path) -> None:
        """Writes the reader as safetensors."""
        about = {"format": _FORMAT, "labels": "".join(self.labels), "width": str(self.width)}
        about |= {"height": str(self.size[0]), "across": str(self.size[1])}
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, str(path), metadata=about)


def _layer(convolution: nn.Conv2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)]


def load_glyph_reader(path: Path) -> GlyphReader:
    """A reader that :meth:`GlyphReader.save` wrote. Raises UserError if the file is missing or is something else."""
    try:
        with safe_open(str(path), framework="pt") as file:
            about = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as a glyph reader: {error}") from error
    if about.get("format") != _FORMAT:
        raise UserError(f"{path} is not a glyph reader of this version: train one with benchmarks/glyph_judge.py")
    height, across, width = (
        int(about[key]) if about.get(key, "").isdecimal() else 0 for key in ("height", "across", "width")
    )
    if not (
        8 <= height <= _MOST_SIDE and 8 <= across <= _MOST_SIDE and 1 <= width <= _MOST_WIDTH and about.get("labels")
    ):
        raise UserError(f"{path} is a damaged glyph reader: train one with benchmarks/glyph_judge.py")
    reader = GlyphReader(tuple(about["labels"]), (height, across), width)
    try:
        reader.load_state_dict(state)
    except RuntimeError as error:  # its own message takes several lines
        raise UserError(f"{path} is a damaged glyph reader: {' '.join(str(error).split())}") from error
    return reader.eval()


def merge_table(labels: tuple[str, ...]) -> Numbers:
    """(K,) int64: for each class the lowest class number that it is merged with (its own if with none)."""
    groups = {character: group for group in MERGED for character in group}
    first: dict[str, int] = {}
    return np.array([first.setdefault(groups.get(label, label), i) for i, label in enumerate(labels)], np.int64)


def train_glyph_reader(
    images: Pictures,
    label: Numbers,
    labels: tuple[str, ...],
    *,
    seed: int = 0,
    training: ReaderTraining | None = None,
) -> GlyphReader:
    """A reader of these renderings; the same seed gives the same reader on the same machine and thread count.

    Args:
        images: (N, H, W, C) uint8, light on dark.
        label: (N,) int64, numbers into ``labels``.
        labels: the characters.
        seed: of the weights, the order and the augmentation; the global generator is left as it was.
        training: how; the defaults suit 28 x 28 pixels.
    """
    how = training or ReaderTraining()
    with random.scoped(seed, "glyph reader"):  # dropout and initialisation take no generator
        reader = GlyphReader(labels, (images.shape[1], images.shape[2])).train()
        ink, target = _ink(images, reader.size), torch.from_numpy(label)
        optimizer = torch.optim.AdamW(reader.parameters(), lr=how.rate, weight_decay=how.decay)
        steps = how.epochs * math.ceil(len(ink) / how.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, how.rate, total_steps=max(steps, 2), pct_start=0.2)
        for which in _batches(len(ink), how):
            logits = reader(_augment(ink[which], how))
            loss = F.cross_entropy(logits, target[which], label_smoothing=how.smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return reader.eval()


def _batches(count: int, how: ReaderTraining) -> Iterator[Tensor]:
    for _ in range(how.epochs):
        yield from torch.split(torch.randperm(count), how.batch)


def _ink(images: Pictures, size: tuple[int, int]) -> Tensor:
    """(N, 1, *size) float32 in [0, 1] from (N, H, W, C) uint8; RGB becomes its luminance, alpha is left out."""
    x = as_tensor(images, torch.device("cpu"))
    x = (x[:, :3] * torch.tensor(_LUMINANCE).reshape(1, 3, 1, 1)).sum(1, keepdim=True) if x.shape[1] >= 3 else x[:, :1]
    if x.shape[2:] != size:
        x = F.interpolate(x, size, mode="bilinear", antialias=True).clamp_(0, 1)
    return x.contiguous()


def _augment(ink: Tensor, how: ReaderTraining) -> Tensor:
    """Moved, blurred, faded and noisy copies, in [0, 1]."""
    n = len(ink)
    u = torch.rand(n, 6) * 2 - 1
    angle, slant = u[:, 0] * math.radians(how.turn), u[:, 1] * how.stretch
    wide, tall = 1 + u[:, 2] * how.stretch, 1 + u[:, 3] * how.stretch
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = torch.stack([wide * cos, slant - sin, 2 * u[:, 4] * how.shift, sin, tall * cos, 2 * u[:, 5] * how.shift], 1)
    grid = F.affine_grid(rows.reshape(n, 2, 3), list(ink.shape), align_corners=False)
    x = F.grid_sample(ink, grid, align_corners=False)
    x = torch.cat([_blur(part, float(torch.rand(())) * how.blur) for part in x.chunk(4)])
    x = x * (1 - torch.rand(n, 1, 1, 1) * (1 - how.fade))
    return x.add_(torch.randn(x.shape) * (torch.rand(n, 1, 1, 1) * how.noise)).clamp_(0, 1)


def _blur(x: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of (N, 1, H, W), zero outside."""
    at = torch.arange(-2, 3, dtype=torch.float32)
    kernel = torch.exp(-(at**2) / (2 * max(sigma, 1e-3) ** 2))
    kernel = (kernel / kernel.sum()).reshape(1, 1, 1, 5)
    return F.conv2d(F.conv2d(x, kernel, padding=(0, 2)), kernel.transpose(2, 3), padding=(2, 0))
