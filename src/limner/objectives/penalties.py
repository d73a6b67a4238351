"""What keeps a critic smooth, so that the generator has slopes to follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from limner.contracts import Condition
from limner.errors import within
from limner.models import Critic
from limner.objectives.objective import Context


@dataclass(frozen=True)
class Judged:
    """Real and made pictures (N, C, H, W) with their classes and scores (N,), through which gradients pass."""

    critic: Critic
    cond: Condition
    real: Tensor
    made: Tensor
    of_real: Tensor
    of_made: Tensor


class _Penalty:
    """None.

    Attributes:
        differentiates: whether :meth:`loss` asks for the slopes of the scores that it is given ...
        both: ... those of made pictures too.
        every: each how manieth iteration it is looked at, in an update of its own if that is not 1.
    """

    differentiates: ClassVar[bool] = False
    both: bool = False
    every: int = 1

    def loss(self, judged: Judged, context: Context) -> Tensor | None:
        """What is added to the critic's loss."""
        return None

    def after(self, critic: Critic) -> None:
        """What is done to the critic after each of its steps."""


@dataclass(frozen=True)
class NoPenalty(_Penalty):
    """None."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True)
class Clipping(_Penalty):
    """Every weight is kept within +- limit (Arjovsky et al. 2017, algorithm 1)."""

    kind: Literal["clipping"] = "clipping"
    limit: float = 0.01

    def __post_init__(self) -> None:
        within("objective.penalty.limit", self.limit, 0, 1000)

    @torch.no_grad()
    def after(self, critic: Critic) -> None:
        for parameter in critic.parameters():
            parameter.clamp_(-self.limit, self.limit)


@dataclass(frozen=True)
class GradientPenalty(_Penalty):
    """weight (|slope| - 1)² between real and made pictures (Gulrajani et al. 2017, algorithm 1)."""

    kind: Literal["gradient"] = "gradient"
    weight: float = 10.0

    def __post_init__(self) -> None:
        within("objective.penalty.weight", self.weight, 0, 1e6)

    def loss(self, judged: Judged, context: Context) -> Tensor:
        share = context.uniform("between", (1, 1, 1))
        between = torch.lerp(judged.made.detach(), judged.real.detach(), share).requires_grad_()
        slope = slopes(judged.critic(between, judged.cond), between)
        size: Tensor = slope.flatten(1).norm(dim=1)
        return self.weight * (size - 1).square().mean()


@dataclass(frozen=True)
class ZeroCentredPenalty(_Penalty):
    """gamma / 2 |slope|² at real pictures, R1 (Mescheder et al. 2018, equation 9), and with ``both`` at made ones too,
    R2 (Huang et al. 2024, section 2.2). ``every`` above 1 is lazy (Karras et al. 2020, section 3.1): as many times as
    strong, in each so manieth iteration."""

    kind: Literal["zero-centred"] = "zero-centred"
    gamma: float = 1.0
    both: bool = False
    every: int = 1
    differentiates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        within("objective.penalty.gamma", self.gamma, 0, 1e6)
        within("objective.penalty.every", self.every, 1, 10_000)

    def loss(self, judged: Judged, context: Context) -> Tensor:
        slope = slopes(judged.of_real, judged.real).flatten(1).square().sum(1)
        if self.both:
            slope = slope + slopes(judged.of_made, judged.made).flatten(1).square().sum(1)
        return self.gamma / 2 * slope.mean()


Penalty = NoPenalty | Clipping | GradientPenalty | ZeroCentredPenalty


def slopes(scores: Tensor, x: Tensor) -> Tensor:
    """d scores / d x, through which gradients pass."""
    (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return slope
