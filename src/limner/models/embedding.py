"""What networks know beside the picture: the level of noise and the label, as one vector."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Condition
from limner.models.layers import zeroed


def labelled(embedding: nn.Embedding | None, cond: Condition, n: int) -> Tensor | None:
    """What the classes of n pictures tell, (n, dim), of an embedding whose first row is the null label's, or None."""
    if embedding is None:
        return None
    null = torch.zeros(n, dtype=torch.int64, device=embedding.weight.device)
    told: Tensor = embedding(null if cond.label is None else cond.label + 1)
    return told


class NoiseFeatures(nn.Module):
    """Sines and cosines of c_noise (N,) at ``dim / 2`` frequencies from 1/4 to 16 turns a unit, (N, dim), dim even."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        turns = torch.logspace(math.log10(0.25), math.log10(16.0), dim // 2)
        self.register_buffer("frequencies", 2 * math.pi * turns, persistent=False)

    def forward(self, noise: Tensor) -> Tensor:
        angle = noise[:, None] * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], dim=1)


class LevelAndLabel(nn.Module):
    """c_noise (N,), label (N,) int64 or None and c_noise of where a jump leads, or None, to an embedding (N, dim).

    Args:
        features: sines and cosines of c_noise, even.
        dim: of the embedding.
        classes: number of labels; 0 makes it unconditional. Label -1 is the null label, and so is None.
        jumps: whether it hears of jumps; at first they change nothing.
    """

    def __init__(self, features: int, dim: int, classes: int, *, jumps: bool = False) -> None:
        super().__init__()
        self.noise = NoiseFeatures(features)
        self.embed_noise = nn.Linear(features, dim)
        self.embed_label = nn.Embedding(classes + 1, dim) if classes else None
        self.embed = nn.Linear(dim, dim)
        self.embed_jump = zeroed(nn.Linear(features, dim, bias=False)) if jumps else None

    def forward(self, noise: Tensor, label: Tensor | None, to: Tensor | None = None) -> Tensor:
        seen = self.noise(noise)
        embedding: Tensor = self.embed_noise(seen)
        if self.embed_jump is not None and to is not None:
            embedding = embedding + self.embed_jump(self.noise(to) - seen)
        if self.embed_label is not None:
            index = torch.zeros_like(noise, dtype=torch.int64) if label is None else label + 1
            embedding = embedding + self.embed_label(index)
        return F.silu(self.embed(F.silu(embedding)))
