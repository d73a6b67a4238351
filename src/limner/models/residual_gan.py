"""Residual generators and critics: those of WGAN-GP, SAGAN and BigGAN are choices of their parts.

After Gulrajani et al. 2017 (section 5.2), Miyato et al. 2018 (spectral norm), Zhang et al. 2019 (self-attention) and
Brock et al. 2019 (a shared embedding of the class, and a part of the code for each block).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Condition, Generator, ImageSpec, Noise
from limner.errors import within
from limner.models.critic import Critic, FoldedPairConfig, Projection, Wrap, doubled, halvings, plain
from limner.models.enlarging import Enlarging, parted
from limner.models.folding import folded, folded_spec, folding
from limner.models.layers import BatchNorm, padded, to_multiple


@dataclass(frozen=True)
class ResidualGANConfig(FoldedPairConfig):
    """Shape of both networks.

    Attributes:
        spectral: divide every weight, but the one that codes come in by, by its largest singular value: "critic",
            "both" or "none".
        attention: self-attention on the largest maps whose longer side is at most this; 0 is none.
        chunks: each block of the generator takes a part of the code of its own.
    """

    kind: Literal["residual-gan"] = "residual-gan"
    spectral: Literal["none", "critic", "both"] = "none"
    attention: int = 0
    chunks: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        within("net.attention", self.attention, 0, 8192)

    def generator(self, spec: ImageSpec, classes: int) -> ResidualGenerator:
        return ResidualGenerator(self, spec, classes)

    def critic(self, spec: ImageSpec, classes: int) -> ResidualCritic:
        return ResidualCritic(self, spec, classes)

    def attends(self, sizes: list[tuple[int, int]]) -> int | None:
        """The level of the maps that attend to themselves, from the largest, 0."""
        return next((i for i, size in enumerate(sizes) if max(size) <= self.attention), None)


def spectral(module: nn.Module) -> nn.Module:
    """A layer whose weight is divided by an estimate of its largest singular value (Miyato et al. 2018)."""
    if all(parameter.is_meta for parameter in module.parameters()):
        return module  # where shapes alone are asked for: the first estimate of every layer would take seconds
    return nn.utils.parametrizations.spectral_norm(module)


def _made(layer: nn.Conv2d | nn.Linear | nn.Embedding, wrap: Wrap) -> nn.Module:
    """With orthogonal weights (Brock et al. 2019, section 3; Saxe et al. 2013)."""
    nn.init.orthogonal_(layer.weight)
    return wrap(layer)


def _weight(layer: nn.Module) -> Tensor:
    """Of a layer that may be wrapped."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _conv(into: int, out: int, side: int, wrap: Wrap, *, bias: bool = True) -> nn.Module:
    return _made(nn.Conv2d(into, out, side, padding=side // 2, bias=bias), wrap)


class Adaptive(nn.Module):
    """A batch norm whose scale and shift are told by an embedding, where there is one (de Vries et al. 2017)."""

    def __init__(self, channels: int, embedding: int, wrap: Wrap) -> None:
        super().__init__()
        self.norm = BatchNorm(channels, affine=not embedding)
        self.affine = _made(nn.Linear(embedding, 2 * channels, bias=False), wrap) if embedding else None

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        x = self.norm(x)
        if self.affine is None or embedding is None:
            return x
        scale, shift = self.affine(embedding)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, x, scale + 1)


class Up(nn.Module):
    """Norm, ReLU, twice the size, conv, norm, ReLU, conv; and the way around them."""

    def __init__(self, into: int, out: int, embedding: int, wrap: Wrap) -> None:
        super().__init__()
        self.norm0, self.norm1 = Adaptive(into, embedding, wrap), Adaptive(out, embedding, wrap)
        # Batch norms follow, which take a bias away again, so that it would drift.
        self.conv0, self.conv1 = (_conv(a, out, 3, wrap, bias=False) for a in (into, out))
        self.skip = _conv(into, out, 1, wrap, bias=False)

    def forward(self, x: Tensor, embedding: Tensor | None, size: tuple[int, int]) -> Tensor:
        h = _twice(F.relu(self.norm0(x, embedding)), size)
        h = self.conv1(F.relu(self.norm1(self.conv0(h), embedding)))
        out: Tensor = _twice(self.skip(x), size) + h  # 1x1: the same before as after, and cheaper
        return out


def _twice(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")[:, :, : size[0], : size[1]]


class Down(nn.Module):
    """ReLU, conv, ReLU, conv, half the size where there is a smaller one; and the way around them.

    Args:
        first: it sees pictures, so that no ReLU comes before its first convolution.
        half: whether it halves the size.
    """

    def __init__(self, into: int, out: int, wrap: Wrap, *, first: bool = False, half: bool = True) -> None:
        super().__init__()
        self.first, self.halves = first, half
        self.conv0, self.conv1 = _conv(into, out, 3, wrap), _conv(out, out, 3, wrap)
        self.skip = _conv(into, out, 1, wrap) if half or into != out else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.conv0(x if self.first else F.relu(x))))
        if self.halves:
            # The mean of four and a 1x1 convolution may change places.
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        out: Tensor = (x if self.skip is None else self.skip(x)) + h
        return out


class SelfAttention(nn.Module):
    """Zhang et al. 2019, section 3: keys and values of a quarter of the places, behind a gate that begins closed."""

    def __init__(self, channels: int, wrap: Wrap) -> None:
        super().__init__()
        narrow, half = to_multiple(channels / 8, 1), to_multiple(channels / 2, 1)
        self.query, self.key = (_conv(channels, narrow, 1, wrap, bias=False) for _ in range(2))
        self.value, self.out = _conv(channels, half, 1, wrap, bias=False), _conv(half, channels, 1, wrap, bias=False)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        q = self.query(x).flatten(2)
        k, v = (F.max_pool2d(part(x), 2, ceil_mode=True).flatten(2) for part in (self.key, self.value))
        # Products and not torch's fused attention, whose gradient has no gradient, which a penalty asks for.
        weights = torch.softmax(q.transpose(1, 2) @ k, dim=-1)
        seen = (v @ weights.transpose(1, 2)).reshape(n, -1, height, width)
        out: Tensor = x + self.gate * self.out(seen)
        return out


class ResidualGenerator(Generator):
    """A code (N, code) to pictures (N, C, H, W) in (-1, 1).

    Args:
        config: its shape.
        spec: of the pictures (or latents) it makes.
        classes: number of labels; 0 makes it unconditional.
    """

    def __init__(self, config: ResidualGANConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        wrap = spectral if config.spectral == "both" else plain
        self.unshuffle = folding(spec.size, config.unshuffle)
        self.sizes, larger = parted(halvings(spec.size)[::-1], self.unshuffle)
        levels = len(self.sizes)
        widths = doubled(config.width, config.most, levels)[::-1]
        self.parts = levels if config.chunks else 1
        self.code = to_multiple(config.code, self.parts)
        part = self.code // self.parts
        label = min(128, config.code) if config.chunks else config.code
        self.label = nn.Embedding(classes, label) if classes else None
        told = (label if classes else 0) + (part if config.chunks else 0)
        self.first = widths[0], *self.sizes[0]
        # Never a spectral norm: by it codes stay fainter than the bias, and in minutes the generator goes deaf to them.
        self.project = _made(nn.Linear(part if config.chunks else self.code, math.prod(self.first)), plain)
        self.blocks = nn.ModuleList(Up(into, out, told, wrap) for into, out in pairwise(widths))
        at = config.attends(self.sizes[::-1])
        self.attend_after = None if at is None or at >= levels - 1 else levels - 2 - at
        self.attention = None if self.attend_after is None else SelfAttention(widths[self.attend_after + 1], wrap)
        self.enlarging = Enlarging(
            widths[-1],
            spec.channels,
            larger,
            before=lambda channels: nn.Sequential(BatchNorm(channels), nn.ReLU()),
            conv=lambda into, out: _conv(into, out, 3, wrap),
        )

    def hearing(self) -> list[Tensor]:
        told = [_weight(self.project)]
        if self.parts == 1:
            return told
        part = self.code // self.parts
        for block in self.blocks:
            assert isinstance(block, Up)
            affine = [norm.affine for norm in (block.norm0, block.norm1) if norm.affine is not None]
            told.append(torch.cat([_weight(one)[:, -part:] for one in affine]))
        return [F.pad(one, (i * part, self.code - (i + 1) * part)) for i, one in enumerate(told)]

    def synthesize(self, w: Tensor, cond: Condition, noise: Noise) -> Tensor:
        codes = w.chunk(self.parts, dim=1)
        label = None if self.label is None or cond.label is None else self.label(cond.label)
        h = self.project(codes[0]).reshape(len(w), *self.first).contiguous(memory_format=torch.channels_last)
        for i, (block, size) in enumerate(zip(self.blocks, self.sizes[1:], strict=True)):
            told = [one for one in (label, codes[i + 1] if self.parts > 1 else None) if one is not None]
            h = block(h, torch.cat(told, dim=1) if told else None, size)
            if self.attention is not None and i == self.attend_after:
                h = self.attention(h)
        return torch.tanh(self.enlarging(h))


class ResidualCritic(Critic):
    """Pictures (N, C, H, W) to scores (N,): no norm of activations, which would tie the pictures of a batch together.

    Args:
        config: its shape.
        spec: of the pictures.
        classes: number of labels; 0 judges pictures alone.
    """

    def __init__(self, config: ResidualGANConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        wrap = plain if config.spectral == "none" else spectral
        self.unshuffle = folding(spec.size, config.unshuffle)
        spec = folded_spec(spec, self.unshuffle)
        sizes = halvings(spec.size)
        widths = doubled(config.width, config.most, len(sizes))
        self.stride = 2 ** (len(sizes) - 1)
        into = [spec.channels, *widths[1:]]
        self.blocks = nn.ModuleList(
            Down(a, b, wrap, first=i == 0, half=i + 1 < len(sizes))
            for i, (a, b) in enumerate(zip(into, [*widths[1:], widths[-1]], strict=True))
        )
        at = config.attends(sizes)
        self.attend_before = at if at else None
        self.attention = None if self.attend_before is None else SelfAttention(into[self.attend_before], wrap)
        self.score = Projection(widths[-1], classes, wrap)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        h = padded(folded(x, self.unshuffle), self.stride).contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            if self.attention is not None and i == self.attend_before:
                h = self.attention(h)
            h = block(h)
        score: Tensor = self.score(F.relu(h).sum((2, 3)), cond)
        return score
