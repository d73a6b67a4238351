"""DCGAN: strided convolutions alone, batch norms, ReLU against leaky ReLU (Radford et al. 2015).

The published networks are for 64x64 pictures without classes. Here the first maps are as many halvings away from the
picture as leave at most 7 pixels, and classes come in beside the code and by projection (Miyato and Koyama 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Condition, Generator, ImageSpec, Noise
from limner.models.critic import Critic, PairConfig, Projection, doubled, halvings
from limner.models.layers import BatchNorm, padded


@dataclass(frozen=True)
class DCGANConfig(PairConfig):
    """Shape of both networks; their largest maps are of half the picture's size."""

    kind: Literal["dcgan"] = "dcgan"
    code: int = 100
    width: int = 64

    def generator(self, spec: ImageSpec, classes: int) -> DCGANGenerator:
        return DCGANGenerator(self, spec, classes)

    def critic(self, spec: ImageSpec, classes: int) -> DCGANCritic:
        return DCGANCritic(self, spec, classes)


def _initialised(module: nn.Module) -> None:
    """Section 4: all weights from N(0, 0.02²)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(part.weight, 0.0, 0.02)
        if isinstance(part, BatchNorm):
            nn.init.normal_(part.weight, 1.0, 0.02)


class DCGANGenerator(Generator):
    """A code (N, code) to pictures (N, C, H, W) in (-1, 1).

    Args:
        config: its shape.
        spec: of the pictures (or latents) it makes.
        classes: number of labels; 0 makes it unconditional.
    """

    def __init__(self, config: DCGANConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.code = config.code
        self.sizes = halvings(spec.size)[::-1]
        widths = doubled(config.width, config.most, len(self.sizes) - 1)[::-1]
        self.label = nn.Embedding(classes, config.code) if classes else None
        self.first = widths[0], *self.sizes[0]
        # No bias before a batch norm, which takes it away again: it would drift.
        inputs = config.code * (2 if classes else 1)
        self.project = nn.Linear(inputs, widths[0] * self.sizes[0][0] * self.sizes[0][1], bias=False)
        self.norm = BatchNorm(widths[0])
        self.grow, self.norms = nn.ModuleList(), nn.ModuleList()
        for into, out in pairwise(widths):
            self.grow.append(nn.ConvTranspose2d(into, out, 4, stride=2, padding=1, bias=False))
            self.norms.append(BatchNorm(out))
        self.head = nn.ConvTranspose2d(widths[-1], spec.channels, 4, stride=2, padding=1)
        _initialised(self)

    def hearing(self) -> list[Tensor]:
        return [self.project.weight[:, : self.code]]

    def synthesize(self, w: Tensor, cond: Condition, noise: Noise) -> Tensor:
        if self.label is not None and cond.label is not None:
            w = torch.cat([w, self.label(cond.label)], dim=1)
        h = self.project(w).reshape(len(w), *self.first).contiguous(memory_format=torch.channels_last)
        h = F.relu(self.norm(h))
        for grow, norm, (height, width) in zip(self.grow, self.norms, self.sizes[1:], strict=False):
            h = F.relu(norm(grow(h)[:, :, :height, :width]))
        height, width = self.sizes[-1]
        return torch.tanh(self.head(h)[:, :, :height, :width])


class DCGANCritic(Critic):
    """Pictures (N, C, H, W) to scores (N,); the first and the last layer have no batch norm (section 3).

    Args:
        config: its shape.
        spec: of the pictures.
        classes: number of labels; 0 judges pictures alone.
    """

    def __init__(self, config: DCGANConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        sizes = halvings(spec.size)
        widths = doubled(config.width, config.most, len(sizes) - 1)
        self.stride = 2 ** (len(sizes) - 1)
        self.first = nn.Conv2d(spec.channels, widths[0], 4, stride=2, padding=1)
        self.shrink, self.norms = nn.ModuleList(), nn.ModuleList()
        for into, out in pairwise(widths):
            self.shrink.append(nn.Conv2d(into, out, 4, stride=2, padding=1, bias=False))
            self.norms.append(BatchNorm(out))
        height, width = sizes[-1]
        self.score = Projection(widths[-1] * height * width, classes)
        _initialised(self)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        h = F.leaky_relu(self.first(padded(x, self.stride).contiguous(memory_format=torch.channels_last)), 0.2)
        for shrink, norm in zip(self.shrink, self.norms, strict=True):
            h = F.leaky_relu(norm(shrink(h)), 0.2)
        score: Tensor = self.score(h.flatten(1), cond)
        return score
