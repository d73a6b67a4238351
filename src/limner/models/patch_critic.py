"""A critic that scores the patches of a picture (PatchGAN, Isola et al. 2017, appendix 6.1.2)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Condition, ImageSpec
from limner.models.critic import Critic, doubled
from limner.models.layers import GroupNorm


class PatchCritic(Critic):
    """Pictures (N, C, H, W) to scores (N, P) of overlapping patches.

    Group norms in the place of batch norms: what a picture scores does not depend on the others.

    Args:
        spec: of the pictures.
        width: channels of the first maps; they double with each halving.
        halvings: of the maps.
    """

    def __init__(self, spec: ImageSpec, width: int = 32, halvings: int = 2) -> None:
        super().__init__()
        widths = [spec.channels, *doubled(width, 8 * width, halvings + 1)]
        sides = [*[4] * halvings, 3]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, side, stride=2 if side == 4 else 1, padding=1)
            for (a, b), side in zip(pairwise(widths), sides, strict=True)
        )
        self.norms = nn.ModuleList(GroupNorm(math.gcd(b, 8), b) for b in widths[2:])
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        h = F.leaky_relu(self.convs[0](x.contiguous(memory_format=torch.channels_last)), 0.2)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            h = F.leaky_relu(norm(conv(h)), 0.2)
        scores: Tensor = self.head(h)
        return scores.flatten(1)
