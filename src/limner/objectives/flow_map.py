"""Flow maps: where a path of the probability flow arrives, learned from small steps along it.

Of a path through x at t, s is a little further on and b is where the jump ends. What the map says of s, it must say of
t: jump(x_t, t, b) = jump(x_s, s, b), the consistency of Song et al. 2023 between any two ends (Kim et al. 2023,
*Consistency trajectory models*), taught for the few jumps that sampling will take (Heek et al. 2024, *Multistep
consistency models*, algorithm 1). The small step is a trained denoiser's (distillation), or goes by the picture itself
(consistency training), which is right on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner import random
from limner.contracts import Condition, Denoiser, Level, Prediction
from limner.errors import UserError, within
from limner.models import PreconditionedFlowMap
from limner.noise_schedules import flow_level
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers


@dataclass(frozen=True)
class MatchingConfig:
    """How the distribution of what is drawn is matched with the teacher's.

    Attributes:
        pull: towards the teacher's distribution, as a share of what tells the two apart; 0 is none.
        above: only what is drawn from at least this share of noise is matched; from less a picture is nearly given.
        noise: (least, most) of the share of noise under which both are looked at.

    Raises:
        UserError: numbers out of bounds.
    """

    pull: float = 0.3
    above: float = 0.5
    noise: tuple[float, float] = (0.05, 0.95)

    def __post_init__(self) -> None:
        within("objective.matching.pull", self.pull, 0, 100)
        within("objective.matching.above", self.above, 0, 1)
        least, most = self.noise
        within("objective.matching.noise", least, 0.001, most)
        within("objective.matching.noise", most, least, 0.999)


@dataclass(frozen=True)
class FlowMapConfig:
    """What a flow map is taught, on the line of rectified flow.

    Attributes:
        steps: into how many jumps a path is cut; each number is taught as often. With 1 every jump leads to a picture,
            which suits any number of them with fresh noise between (eta 1).
        fineness: small steps of a whole path.
        shift: of the times, as the flow discretization's; sampling without fresh noise (eta 0) must take the same.
        anchor: share of samples that are taught as a denoiser's, without a jump.
        label_dropout: share of samples whose label is hidden.
        matching: of what is drawn with a teacher's pictures, where there is one.

    Raises:
        UserError: numbers out of bounds.
    """

    steps: tuple[int, ...] = (1,)
    fineness: int = 24
    shift: float = 3.0
    anchor: float = 0.35
    label_dropout: float = 0.0
    matching: MatchingConfig = MatchingConfig()

    def __post_init__(self) -> None:
        within("objective.fineness", self.fineness, 2, 10_000)
        within("objective.shift", self.shift, 0.001, 1000)
        within("objective.anchor", self.anchor, 0, 1)
        within("objective.label-dropout", self.label_dropout, 0, 1)
        if not self.steps or not all(1 <= n <= self.fineness for n in self.steps):
            raise UserError(f"objective.steps are {self.steps}; give numbers from 1 to {self.fineness}, the fineness")

    def level(self, position: Tensor) -> Level:
        """Of positions in [0, 1], 1 being noise."""
        return flow_level(position, self.shift)


@dataclass(frozen=True)
class Way:
    """Where each sample is, where its small step leads, where its jump ends, and whether the one is the other (N,)."""

    at: Level
    soon: Level
    to: Level
    short: Tensor


@dataclass(frozen=True)
class Taught:
    """What the map said of a batch, (N, C, H, W), how far that is from what it should say, in units of the noise,
    (N, 1, 1, 1), which way it was asked for, and under which condition."""

    said: Tensor
    error: Tensor
    unit: Tensor
    way: Way
    cond: Condition


class FlowMapping(Objective):
    """Consistency of jumps.

    Args:
        denoiser: the map.
        teacher: a trained denoiser whose paths are learned, or None.
        config: what is taught.
        optimizer: how its weights move.

    Logged: "loss".
    """

    ema = ("denoiser",)

    def __init__(
        self,
        denoiser: PreconditionedFlowMap,
        teacher: Denoiser | None,
        config: FlowMapConfig,
        optimizer: OptimizerConfig,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.teacher = teacher
        self.config = config
        self.optimizer = optimizer
        if teacher is not None:
            teacher.requires_grad_(False)

    def train(self, mode: bool = True) -> FlowMapping:
        """As for any module; the teacher stays as it draws."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def optimizers(self) -> Optimizers:
        return self.optimizer.build("denoiser", self.denoiser)

    def updates(self) -> list[Update]:
        return [Update("map", optimizers=tuple(self.optimizers()), params=("denoiser",), loss=self.loss)]

    def loss(self, batch: Batch, context: Context) -> Losses:
        return {"loss": self.taught(batch, context).error.square().mean()}

    def taught(self, batch: Batch, context: Context) -> Taught:
        """What the map says of the batch, each sample at a level of its own, and how far off that is."""
        way = self._way(context)
        alpha, sigma = way.at.like(batch.images)
        noise = context.noise("noise", tuple(batch.images.shape[1:]))
        cond = batch.cond.dropped(context.uniform("drop") < self.config.label_dropout)
        x = (alpha * batch.images).addcmul(sigma, noise)
        with random.rewound():  # what one path says of both its ends, one network with one dropout should say
            target = self._target(x, batch.images, way, cond)
        said = self.denoiser.average(x, way.at, way.to, cond).x0
        unit = way.at.sigma.clamp_min(0.02).reshape(-1, 1, 1, 1)
        return Taught(said, (said - target) / unit, unit, way, cond)

    def _way(self, context: Context) -> Way:
        position = context.spread("level")
        counts = torch.tensor(self.config.steps, device=position.device)
        chosen = counts[(context.uniform("steps") * len(counts)).long().clamp_max(len(counts) - 1)]
        end = (position * chosen).floor() / chosen
        soon = position - 1 / self.config.fineness
        still = context.uniform("anchor") < self.config.anchor
        level = self.config.level
        return Way(
            level(position),
            level(torch.maximum(soon, end)),
            level(torch.where(still, position, end)),
            (soon <= end) | still,
        )

    @torch.no_grad()
    def _target(self, x: Tensor, images: Tensor, way: Way, cond: Condition) -> Tensor:
        """The x0 by which the jump would land where it lands from the small step's end."""
        guess = Prediction(images) if self.teacher is None else self.teacher(x, way.at, cond)
        near = guess.moved(x, way.at, way.soon)
        landed = self.denoiser.jump(near, way.soon, way.to, cond)
        by = Prediction.of_move(x, way.at, landed, way.to)
        return torch.where(way.short.reshape(-1, 1, 1, 1), guess.x0, by.x0)
