"""A critic of drawn pictures that looks through a trained denoiser.

After Sauer et al. 2024 (*Fast high-resolution image synthesis with latent adversarial diffusion distillation*): heads
over what the blocks of a frozen denoiser make of pictures under noise learn quickly what drawn pictures lack, because
the denoiser has learned already what pictures are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Condition
from limner.errors import within
from limner.objectives.optimizers import AdamWConfig


@dataclass(frozen=True)
class CriticConfig:
    """A critic, and how it teaches.

    Attributes:
        pull: towards what it takes for real, as a share of the pull towards the path that a sample is taught; 0 is no
            critic.
        channels: of each of its heads.
        noise: (least, most) of the level at which it looks, as a share.
        optimizer: how its weights move.
    """

    pull: float = 0.0
    channels: int = 32
    noise: tuple[float, float] = (0.05, 0.8)
    optimizer: AdamWConfig = field(default_factory=lambda: AdamWConfig(lr=2e-3, betas=(0.0, 0.99)))

    def __post_init__(self) -> None:
        within("objective.critic.pull", self.pull, 0, 100)
        within("objective.critic.channels", self.channels, 1, 4096)
        least, most = self.noise
        within("objective.critic.noise", least, 0, most)
        within("objective.critic.noise", most, least, 0.999)


class Head(nn.Module):
    """Scores for the places of one feature map; the label's share is a projection (Miyato and Koyama 2018)."""

    def __init__(self, into: int, channels: int, classes: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(into, channels, 1)
        self.look = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.score = nn.Conv2d(channels, 1, 1)
        self.label = nn.Embedding(classes + 1, channels) if classes else None
        if self.label is not None:
            nn.init.zeros_(self.label.weight)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        scale = x.square().mean(dim=(1, 2, 3), keepdim=True).add(1e-6).rsqrt()
        h = F.silu(self.look(F.silu(self.narrow(x * scale))))
        out: Tensor = self.score(h).flatten(1)
        if self.label is not None:
            index = cond.label + 1 if cond.label is not None else x.new_zeros(len(x), dtype=torch.int64)
            out = out + (h * self.label(index)[:, :, None, None]).sum(1).flatten(1)
        return out


class Critic(nn.Module):
    """Feature maps, one a head, (N, C, H, W) each, to scores (N, places of all maps): above 0 for real.

    Args:
        into: channels of the maps.
        channels: of each head.
        classes: number of labels; 0 for none.
    """

    def __init__(self, into: Sequence[int], channels: int, classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(one, channels, classes) for one in into)

    def forward(self, features: Sequence[Tensor], cond: Condition) -> Tensor:
        return torch.cat([head(one, cond) for head, one in zip(self.heads, features, strict=True)], dim=1)


def hinge(real: Tensor, drawn: Tensor) -> Tensor:
    """What a critic gets wrong, (N,), of its scores (N, places) (Lim and Ye 2017, *Geometric GAN*)."""
    return F.relu(1 - real).mean(1) + F.relu(1 + drawn).mean(1)
