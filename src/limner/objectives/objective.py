"""What an objective is: the updates that one iteration of training makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn

from limner import random
from limner.contracts import Condition
from limner.objectives.optimizers import Optimizers

_GOLDEN = 0.6180339887498949


@lru_cache(maxsize=1024)
def _start(seed: int, stream: str) -> float:
    return float(random.uniform(seed, torch.zeros(1, dtype=torch.int64), stream))


@dataclass(frozen=True)
class Batch:
    """Fresh training data: images (N, C, H, W) in [-1, 1], their condition, and each one's place in the run. Behind a
    codec images are its latents, or its tokens (N, T), whole numbers in the type of pictures.

    ``samples`` (N,) int64 counts images seen since the start of the run. It keys every random draw, so the draw for a
    sample is the same however a batch is cut into micro-batches.
    """

    images: Tensor
    cond: Condition
    samples: Tensor

    def index(self, which: Tensor | slice) -> Batch:
        return Batch(self.images[which], self.cond.index(which), self.samples[which])


@dataclass(frozen=True)
class Context:
    """What a loss may ask for beside its batch.

    Attributes:
        seed: of the run.
        samples: those of the batch at hand.
        update: name of the update, part of every stream's name.
        progress: share of the training done, in [0, 1).
        shared: tensors handed from one update of an iteration to the next.
        dtype: of the pictures, and so of what is drawn.
        batch: how many pictures an update sees, over all processes.
    """

    seed: int
    samples: Tensor
    update: str
    progress: float
    shared: dict[str, Tensor] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    batch: int = 0

    def noise(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal, (N, *shape)."""
        return random.normal(self.seed, self.samples, f"{self.update}/{name}", shape=shape).to(self.dtype)

    def uniform(self, name: str, shape: tuple[int, ...] = ()) -> Tensor:
        """In (0, 1), (N, *shape)."""
        return random.uniform(self.seed, self.samples, f"{self.update}/{name}", shape=shape).to(self.dtype)

    def spread(self, name: str) -> Tensor:
        """Uniform in (0, 1), (N,), and evenly spread over any run of consecutive samples.

        The additive recurrence of the golden ratio from a keyed start: levels drawn from it vary less from batch to
        batch than independent ones (the low-discrepancy sampler of Kingma et al. 2021, without needing the batch).
        """
        turned = (self.samples.double() * _GOLDEN + _start(self.seed, f"{self.update}/{name}")).frac()
        return turned.clamp(1e-6, 1 - 1e-6).to(self.dtype)


Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Update:
    """One optimiser step of one of the players.

    Attributes:
        name: "denoise", "generator", "critic".
        optimizers: which of the objective's optimisers step; several where matrices and vectors have their own.
        params: names of the objective's submodules it trains; all others are frozen meanwhile.
        loss: (batch, context) to a dict whose "loss" is minimised, the others logged.
        after: called after every turn with what was logged, summed over all processes; also where the step was skipped
            because something was not finite.
        every: only each n-th iteration (lazy regularisation).
        repeat: so many times an iteration, with fresh data each.
    """

    name: str
    optimizers: tuple[str, ...]
    params: tuple[str, ...]
    loss: Callable[[Batch, Context], Losses]
    after: Callable[[Context, Losses], None] | None = None
    every: int = 1
    repeat: int = 1


class Objective(nn.Module):
    """The nets being trained and the state of their losses. ``ema`` names the submodules that are averaged."""

    ema: tuple[str, ...] = ()

    def optimizers(self) -> Optimizers:
        raise NotImplementedError

    def settle(self, averaged: nn.ModuleDict) -> None:
        """Make the averages of submodules fit to draw with, where averaging weights is not enough."""

    def updates(self) -> list[Update]:
        raise NotImplementedError

    def advice(self, told: Mapping[str, float], variety: float | None) -> list[str]:
        """What a user should know of a training that has ended, and what to change, in sentences without a full stop.

        Args:
            told: what was logged, by name, on average over its last part.
            variety: recall or coverage of the samples, whichever is worse, as a share of what real held-out pictures
                have; None where nobody looked.
        """
        return []
