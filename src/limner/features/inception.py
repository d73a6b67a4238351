"""Inception-v3 (Szegedy et al. 2016, *Rethinking the Inception architecture for computer vision*) as TensorFlow's graph
of 2015-12-05 has it: the network of the Fréchet Inception Distance (Heusel et al. 2017) and of the Inception Score
(Salimans et al. 2016).

The weights are those of pytorch-fid and torch-fidelity, which are one file. That graph differs from later ones: 1,008
classes, averages at a block's edge that leave the padding out, and a maximum instead of an average in the last block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.features.extractor import AS_RGB, Extractor, Images, as_rgb
from limner.features.weights import PUBLISHED, fill, find, is_published, read

SIDE = 299
CLASSES = 1008
Step = Callable[[Tensor], Tensor]


class Unit(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, into: int, out: int, kernel: tuple[int, int], stride: int, padding: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


@dataclass(frozen=True)
class Layer:
    """A :class:`Unit` by its name in the file; ``valid`` pads nothing, otherwise a stride of 1 keeps the size."""

    name: str
    out: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    valid: bool = False

    def added(self, owner: nn.Module, into: int) -> tuple[Step, int]:
        padding = (0, 0) if self.valid else (self.kernel[0] // 2, self.kernel[1] // 2)
        unit = Unit(into, self.out, self.kernel, self.stride, padding)
        owner.add_module(self.name, unit)
        return unit, self.out


@dataclass(frozen=True)
class Fork:
    """Two layers side by side at the end of a path."""

    layers: tuple[Layer, Layer]

    def added(self, owner: nn.Module, into: int) -> tuple[Step, int]:
        (one, _), (other, _) = (layer.added(owner, into) for layer in self.layers)
        return lambda x: torch.cat([one(x), other(x)], dim=1), sum(layer.out for layer in self.layers)


@dataclass(frozen=True)
class Block:
    """A :class:`Mixed` by its name in the file."""

    name: str
    paths: tuple[Parts, ...]

    def added(self, owner: nn.Module, into: int) -> tuple[Step, int]:
        mixed = Mixed(into, self.paths)
        owner.add_module(self.name, mixed)
        return mixed, mixed.out


Parts = Sequence[Layer | Fork | Block | Step]


def assembled(owner: nn.Module, parts: Parts, into: int) -> tuple[Step, int]:
    """The parts one after another, their modules added to ``owner``, and how many channels come out."""
    steps: list[Step] = []
    for part in parts:
        step: Step
        if isinstance(part, (Layer, Fork, Block)):
            step, into = part.added(owner, into)
        else:
            step = part
        steps.append(step)

    def run(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return run, into


class Mixed(nn.Module):
    """Paths side by side from one input, their channels joined; ``out`` is how many there are."""

    def __init__(self, into: int, paths: Sequence[Parts]) -> None:
        super().__init__()
        made = [assembled(self, path, into) for path in paths]
        self._paths = [path for path, _ in made]
        self.out = sum(out for _, out in made)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([path(x) for path in self._paths], dim=1)


def average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def largest(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


def _square(name: str, out: int, side: int, *, stride: int = 1, valid: bool = False) -> Layer:
    return Layer(name, out, (side, side), stride, valid or stride > 1)


def _wide(name: str, out: int, length: int) -> Layer:
    return Layer(name, out, (1, length))


def _tall(name: str, out: int, length: int) -> Layer:
    return Layer(name, out, (length, 1))


def _at_35(name: str, pooled: int) -> Block:
    """At 35×35: figure 5 of the paper, with the 5×5 kept whole."""
    five = [Layer("branch5x5_1", 48), _square("branch5x5_2", 64, 5)]
    double = [Layer("branch3x3dbl_1", 64), _square("branch3x3dbl_2", 96, 3), _square("branch3x3dbl_3", 96, 3)]
    return Block(name, ([Layer("branch1x1", 64)], five, double, [average, Layer("branch_pool", pooled)]))


def _to_17(name: str) -> Block:
    """From 35×35 to 17×17: figure 10."""
    double = [Layer("branch3x3dbl_1", 64), _square("branch3x3dbl_2", 96, 3), _square("branch3x3dbl_3", 96, 3, stride=2)]
    return Block(name, ([_square("branch3x3", 384, 3, stride=2)], double, [halve]))


def _at_17(name: str, inner: int) -> Block:
    """At 17×17: figure 6 with n = 7."""
    seven = [Layer("branch7x7_1", inner), _wide("branch7x7_2", inner, 7), _tall("branch7x7_3", 192, 7)]
    double = [
        Layer("branch7x7dbl_1", inner),
        _tall("branch7x7dbl_2", inner, 7),
        _wide("branch7x7dbl_3", inner, 7),
        _tall("branch7x7dbl_4", inner, 7),
        _wide("branch7x7dbl_5", 192, 7),
    ]
    return Block(name, ([Layer("branch1x1", 192)], seven, double, [average, Layer("branch_pool", 192)]))


def _to_8(name: str) -> Block:
    """From 17×17 to 8×8."""
    seven = [
        Layer("branch7x7x3_1", 192),
        _wide("branch7x7x3_2", 192, 7),
        _tall("branch7x7x3_3", 192, 7),
        _square("branch7x7x3_4", 192, 3, stride=2),
    ]
    return Block(name, ([Layer("branch3x3_1", 192), _square("branch3x3_2", 320, 3, stride=2)], seven, [halve]))


def _at_8(name: str, pool: Step) -> Block:
    """At 8×8: figure 7, which widens."""
    three: Parts = [Layer("branch3x3_1", 384), Fork((_wide("branch3x3_2a", 384, 3), _tall("branch3x3_2b", 384, 3)))]
    double: Parts = [
        Layer("branch3x3dbl_1", 448),
        _square("branch3x3dbl_2", 384, 3),
        Fork((_wide("branch3x3dbl_3a", 384, 3), _tall("branch3x3dbl_3b", 384, 3))),
    ]
    return Block(name, ([Layer("branch1x1", 320)], three, double, [pool, Layer("branch_pool", 192)]))


#: What lies between one halving and the next.
_STAGES: tuple[Parts, ...] = (
    (
        _square("Conv2d_1a_3x3", 32, 3, stride=2),
        _square("Conv2d_2a_3x3", 32, 3, valid=True),
        _square("Conv2d_2b_3x3", 64, 3),
    ),
    (halve, Layer("Conv2d_3b_1x1", 80), _square("Conv2d_4a_3x3", 192, 3, valid=True)),
    (halve, _at_35("Mixed_5b", 32), _at_35("Mixed_5c", 64), _at_35("Mixed_5d", 64)),
    (
        _to_17("Mixed_6a"),
        _at_17("Mixed_6b", 128),
        _at_17("Mixed_6c", 160),
        _at_17("Mixed_6d", 160),
        _at_17("Mixed_6e", 192),
    ),
    (_to_8("Mixed_7a"), _at_8("Mixed_7b", average), _at_8("Mixed_7c", largest)),
)


class Inception(nn.Module):
    """(N, 3, 299, 299) in about [-1, 1] to features (N, 2048), the pooled last block, and from them logits."""

    def __init__(self) -> None:
        super().__init__()
        self._stages: list[Step] = []
        channels = 3
        for parts in _STAGES:
            stage, channels = assembled(self, parts, channels)
            self._stages.append(stage)
        self.fc = nn.Linear(channels, CLASSES)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Those of each stage; any size from 75 on will do."""
        found = []
        for stage in self._stages:
            x = stage(x)
            found.append(x)
        return found

    def features(self, x: Tensor) -> Tensor:
        return self.maps(x)[-1].mean(dim=(2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """(N, 1008), without the bias: so the Inception Score was published, and so it is computed everywhere."""
        return features @ self.fc.weight.T


def tf_resize(x: Tensor, size: int) -> Tensor:
    """TensorFlow 1's ``resize_bilinear`` with align_corners=False: (N, C, H, W) to (N, C, size, size), bit for bit.

    A pixel's place in the source is its number times the scale, without the half pixel that others shift by; nothing is
    smoothed where pictures shrink.
    """
    for dim in (3, 2):  # across before down, as there: rounding depends on it
        length = x.shape[dim]
        scale = torch.tensor(float(length), device=x.device) / size
        at = torch.arange(size, dtype=torch.float32, device=x.device) * scale
        below = at.floor()
        shape = [1, 1, 1, 1]
        shape[dim] = size
        share = (at - below).reshape(shape)
        first = x.index_select(dim, below.long().clamp_max(length - 1))
        second = x.index_select(dim, (below.long() + 1).clamp_max(length - 1))
        x = first + (second - first) * share
    return x


def network(weights: Path | None) -> tuple[Inception, str, Path]:
    """The network with its weights, their fingerprint, and where they were found."""
    path = find("inception", weights)
    net = Inception()
    return net, fill(net, read(path), path), path


def scaled(x: Tensor) -> Tensor:
    """Pictures in [0, 255] as the network sees them."""
    return (x - 128.0) / 128.0


def load(weights: Path | None, device: torch.device) -> Extractor:
    """The extractor ``inception``: pictures of any size at 299×299. A Fréchet distance over it is the FID."""
    net, fingerprint, path = network(weights)
    net.to(device)

    def features(images: Images) -> Tensor:
        return net.features(scaled(tf_resize(as_rgb(images, device), SIDE)))

    return Extractor(
        name="inception",
        dim=2048,
        fingerprint=fingerprint,
        resizer=f"TensorFlow 1 bilinear {SIDE}x{SIDE}, no half-pixel centres, no antialiasing; {AS_RGB}",
        channels=(1, 3, 4),
        forward=features,
        logits=lambda images: net.logits(features(images)),
        head=lambda given: net.logits(given.to(device)),
        published={"fd": "fid_inception", "inception_score": "inception_score"},
        batch=50,
        limits="" if is_published("inception", path) else _OTHER_WEIGHTS,
    )


_OTHER_WEIGHTS = (
    f"the weights of inception are not the published file (SHA-256 {PUBLISHED['inception'].sha256[:8]}…): these scores "
    "are the FID and the Inception Score of the literature only if they hold the same numbers"
)
