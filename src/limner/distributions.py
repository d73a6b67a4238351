"""What a model that writes says of the next site: a distribution of its values, each given those before it."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor


class Distribution:
    """Of the V values of one site, (N, V) whole numbers; each is one of K, and known given those before it.

    Attributes:
        values: V.
    """

    values: int

    def index(self, which: Tensor | slice) -> Self:
        """Of some of the pictures."""
        raise NotImplementedError

    def logits(self, before: Tensor) -> Tensor:
        """ln p of each of the K values that come next, but for a constant, (N, K), given ``before``, (N, 0 … V - 1)."""
        raise NotImplementedError

    def log_prob(self, values: Tensor) -> Tensor:
        """ln p of values (N, V), in nats, (N,)."""
        told = [
            torch.log_softmax(self.logits(values[:, :place]), dim=-1).gather(1, values[:, place, None])[:, 0]
            for place in range(self.values)
        ]
        return torch.stack(told).sum(0)

    def draw(self, uniforms: Tensor) -> Tensor:
        """Values (N, V) by inverse CDF of uniforms (N, V + 1) in (0, 1), of which the first is for the choice of a
        component, where there is one."""
        values = torch.empty(len(uniforms), 0, dtype=torch.int64, device=uniforms.device)
        for place in range(self.values):
            value = at(self.logits(values), uniforms[:, place + 1])
            values = torch.cat([values, value[:, None]], dim=1)
        return values


def at(logits: Tensor, uniform: Tensor) -> Tensor:
    """The value (...,) at which the cumulated distribution of logits (..., K) passes uniforms (...,)."""
    ends = torch.softmax(logits, dim=-1).cumsum(-1)
    # Sums of rounded numbers end near 1: the last one is where all ends. What has no mass is never passed.
    return (ends <= uniform[..., None] * ends[..., -1:]).sum(-1)


class Categorical(Distribution):
    """Values that do not know of each other.

    Args:
        said: (N, V, K) logits.
    """

    def __init__(self, said: Tensor) -> None:
        self.said, self.values = said, said.shape[1]

    def index(self, which: Tensor | slice) -> Categorical:
        return Categorical(self.said[which])

    def logits(self, before: Tensor) -> Tensor:
        return self.said[:, before.shape[1]]

    def log_prob(self, values: Tensor) -> Tensor:
        return torch.log_softmax(self.said, dim=-1).gather(2, values[..., None])[..., 0].sum(1)

    def draw(self, uniforms: Tensor) -> Tensor:
        return at(self.said, uniforms[:, 1:])
