"""R3GAN (Huang et al. 2024, section 3): residual blocks of grouped convolutions, no norm anywhere, the same for both.

A block starts as nothing, and its other weights are as small as the depth asks for (Zhang et al. 2019, *Fixup*).
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
from limner.models.critic import Critic, FoldedPairConfig, Projection, doubled, halvings
from limner.models.enlarging import Enlarging, parted
from limner.models.equalized import halved, twice
from limner.models.folding import folded, folded_spec, folding
from limner.models.layers import padded, to_multiple, zeroed

#: Keeps the size of activations behind a leaky ReLU of slope 0.2 (He et al. 2015).
_GAIN = math.sqrt(2 / (1 + 0.2**2))


@dataclass(frozen=True)
class R3GANConfig(FoldedPairConfig):
    """Shape of both networks.

    Attributes:
        blocks: residual blocks for each size of maps.
        expansion: channels inside a block, in those outside.
        group: channels that a convolution inside a block mixes.
        bases: learned maps that a code weighs, channel by channel, to begin with. One, as published, is enough where
            there are many more channels than codes have numbers.
    """

    kind: Literal["r3gan"] = "r3gan"
    code: int = 64
    blocks: int = 1
    expansion: int = 2
    group: int = 16
    bases: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        within("net.blocks", self.blocks, 1, 64)
        within("net.expansion", self.expansion, 1, 16)
        within("net.group", self.group, 1, 16384)
        within("net.bases", self.bases, 1, 256)

    def generator(self, spec: ImageSpec, classes: int) -> R3GANGenerator:
        return R3GANGenerator(self, spec, classes)

    def critic(self, spec: ImageSpec, classes: int) -> R3GANCritic:
        return R3GANCritic(self, spec, classes)


def _made(layer: nn.Conv2d | nn.Linear, gain: float) -> nn.Conv2d | nn.Linear:
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(math.prod(layer.weight.shape[1:])))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """1x1, grouped 3x3, 1x1, around which x passes unchanged.

    Args:
        channels: outside.
        config: of the network.
        depth: blocks of the network.
    """

    def __init__(self, channels: int, config: R3GANConfig, depth: int) -> None:
        super().__init__()
        groups = max(1, channels * config.expansion // config.group)
        inside = to_multiple(channels * config.expansion, groups)
        # Fixup, section 4: three layers a block, of which the last begins at zero.
        gain = _GAIN * depth ** (-1 / 4)
        self.expand = _made(nn.Conv2d(channels, inside, 1), gain)
        self.conv = _made(nn.Conv2d(inside, inside, 3, padding=1, groups=groups), gain)
        self.reduce = zeroed(nn.Conv2d(inside, channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.conv(F.leaky_relu(self.expand(x), 0.2, inplace=True)), 0.2, inplace=True)
        out: Tensor = x + self.reduce(h)
        return out


def _blocks(widths: list[int], config: R3GANConfig) -> nn.ModuleList:
    depth = config.blocks * len(widths)
    return nn.ModuleList(nn.Sequential(*(Block(w, config, depth) for _ in range(config.blocks))) for w in widths)


class R3GANGenerator(Generator):
    """A code (N, code) to pictures (N, C, H, W) in (-1, 1).

    Args:
        config: its shape.
        spec: of the pictures (or latents) it makes.
        classes: number of labels; 0 makes it unconditional.
    """

    def __init__(self, config: R3GANConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.code, self.unshuffle = config.code, folding(spec.size, config.unshuffle)
        self.sizes, larger = parted(halvings(spec.size)[::-1], self.unshuffle)
        widths = doubled(config.width, config.most, len(self.sizes))[::-1]
        self.label = nn.Embedding(classes, config.code) if classes else None
        self.basis = nn.Parameter(torch.randn(config.bases, widths[0], *self.sizes[0]))
        heard = config.code * (2 if classes else 1)
        self.project = _made(nn.Linear(heard, config.bases * widths[0], bias=False), config.bases ** (-1 / 2))
        self.stages = _blocks(widths, config)
        self.narrow = nn.ModuleList(_made(nn.Conv2d(a, b, 1, bias=False), 1.0) for a, b in pairwise(widths))
        self.enlarging = Enlarging(
            widths[-1],
            spec.channels,
            larger,
            before=lambda _: nn.LeakyReLU(0.2),
            conv=lambda into, out: _made(nn.Conv2d(into, out, 3, padding=1), _GAIN),
        )

    def hearing(self) -> list[Tensor]:
        return [self.project.weight[:, : self.code]]

    def synthesize(self, w: Tensor, cond: Condition, noise: Noise) -> Tensor:
        if self.label is not None and cond.label is not None:
            w = torch.cat([w, self.label(cond.label)], dim=1)
        shares = self.project(w).unflatten(1, self.basis.shape[:2])
        h = torch.einsum("nbc,bchw->nchw", shares, self.basis).contiguous(memory_format=torch.channels_last)
        h = self.stages[0](h)
        for narrow, stage, size in zip(self.narrow, self.stages[1:], self.sizes[1:], strict=True):
            h = stage(twice(narrow(h))[:, :, : size[0], : size[1]])
        # As published, there is no bound: on pictures that lie at theirs a critic then tells all (docs/report-card.md).
        return torch.tanh(self.enlarging(h))


class R3GANCritic(Critic):
    """Pictures (N, C, H, W) to scores (N,).

    Args:
        config: its shape.
        spec: of the pictures.
        classes: number of labels; 0 judges pictures alone.
    """

    def __init__(self, config: R3GANConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.unshuffle = folding(spec.size, config.unshuffle)
        spec = folded_spec(spec, self.unshuffle)
        sizes = halvings(spec.size)
        widths = doubled(config.width, config.most, len(sizes))
        self.stride = 2 ** (len(sizes) - 1)
        side = tuple(-(-length // self.stride) for length in spec.size)
        self.first = _made(nn.Conv2d(spec.channels, widths[0], 1, bias=False), 1.0)
        self.stages = _blocks(widths, config)
        self.widen = nn.ModuleList(_made(nn.Conv2d(a, b, 1, bias=False), 1.0) for a, b in pairwise(widths))
        self.basis = _made(nn.Conv2d(widths[-1], widths[-1], side, groups=widths[-1], bias=False), 1.0)
        self.score = Projection(widths[-1], classes)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        h = self.first(padded(folded(x, self.unshuffle), self.stride).contiguous(memory_format=torch.channels_last))
        h = self.stages[0](h)
        for widen, stage in zip(self.widen, self.stages[1:], strict=True):
            h = stage(widen(halved(h)))
        score: Tensor = self.score(self.basis(h).flatten(1), cond)
        return score
