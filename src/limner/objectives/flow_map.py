"""Flow maps: where a path of the probability flow arrives, learned from small steps along it.

Of a path through x at t, s is a little further on and b is where the jump ends. What the map says of s, it must say of
t: jump(x_t, t, b) = jump(x_s, s, b), the consistency of Song et al. 2023 between any two ends (Kim et al. 2023,
*Consistency trajectory models*), taught for the few jumps that sampling will take (Heek et al. 2024, *Multistep
consistency models*, algorithm 1). The small step is a trained denoiser's (distillation), or goes by the picture itself
(consistency training), which is right on average.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from limner.contracts import Condition, Denoiser, Level, Prediction
from limner.errors import UserError, within
from limner.models import Preconditioned, PreconditionedFlowMap
from limner.objectives.critic import Critic, CriticConfig, hinge
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers


@dataclass(frozen=True)
class FlowMapConfig:
    """What a flow map is taught, on the line of rectified flow.

    Attributes:
        steps: the numbers of jumps that sampling may take; each as often.
        fineness: small steps of a whole path.
        shift: of the times, as the flow discretization's; sampling without fresh noise (eta 0) must take the same.
        anchor: share of samples that are taught as a denoiser's, without a jump.
        label_dropout: share of samples whose label is hidden.
        critic: of the pictures that jumps lead to, where a teacher's paths are learned.

    Raises:
        UserError: numbers out of bounds.
    """

    steps: tuple[int, ...] = (1, 2, 4)
    fineness: int = 64
    shift: float = 1.5
    anchor: float = 0.25
    label_dropout: float = 0.0
    critic: CriticConfig = field(default_factory=CriticConfig)

    def __post_init__(self) -> None:
        within("objective.fineness", self.fineness, 2, 10_000)
        within("objective.shift", self.shift, 0.001, 1000)
        within("objective.anchor", self.anchor, 0, 1)
        within("objective.label-dropout", self.label_dropout, 0, 1)
        if not self.steps or not all(1 <= n <= self.fineness for n in self.steps):
            raise UserError(f"objective.steps are {self.steps}; give numbers from 1 to {self.fineness}, the fineness")

    def level(self, position: Tensor) -> Level:
        """Of positions in [0, 1], 1 being noise."""
        noise, signal = self.shift * position, 1 - position
        return Level(signal / (signal + noise), noise / (signal + noise))


@dataclass(frozen=True)
class _Way:
    """Where each sample is, where its small step leads, where its jump ends, and whether the one is the other (N,)."""

    at: Level
    soon: Level
    to: Level
    short: Tensor


@dataclass(frozen=True)
class _Taught:
    """What the map said of a batch, (N, C, H, W), how far that is from what it should say, in units of the noise, which
    way it was asked for, and under which condition."""

    said: Tensor
    error: Tensor
    way: _Way
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
        return {"loss": self._taught(batch, context).error.square().mean()}

    def _taught(self, batch: Batch, context: Context) -> _Taught:
        way = self._way(context)
        alpha, sigma = way.at.like(batch.images)
        noise = context.noise("noise", tuple(batch.images.shape[1:]))
        cond = batch.cond.dropped(context.uniform("drop") < self.config.label_dropout)
        x = (alpha * batch.images).addcmul(sigma, noise)
        target = self._target(x, batch.images, way, cond)
        said = self.denoiser.average(x, way.at, way.to, cond).x0
        return _Taught(said, (said - target) / way.at.sigma.clamp_min(0.02).reshape(-1, 1, 1, 1), way, cond)

    def _way(self, context: Context) -> _Way:
        position = context.spread("level")
        counts = torch.tensor(self.config.steps, device=position.device)
        chosen = counts[(context.uniform("steps") * len(counts)).long().clamp_max(len(counts) - 1)]
        end = (position * chosen).floor() / chosen
        soon = position - 1 / self.config.fineness
        still = context.uniform("anchor") < self.config.anchor
        level = self.config.level
        return _Way(
            level(position),
            level(torch.maximum(soon, end)),
            level(torch.where(still, position, end)),
            (soon <= end) | still,
        )

    @torch.no_grad()
    def _target(self, x: Tensor, images: Tensor, way: _Way, cond: Condition) -> Tensor:
        """The x0 by which the jump would land where it lands from the small step's end."""
        guess = Prediction(images) if self.teacher is None else self.teacher(x, way.at, cond)
        near = guess.moved(x, way.at, way.soon)
        landed = self.denoiser.jump(near, way.soon, way.to, cond)
        by = Prediction.of_move(x, way.at, landed, way.to)
        return torch.where(way.short.reshape(-1, 1, 1, 1), guess.x0, by.x0)


class CriticisedFlowMapping(FlowMapping):
    """Consistency of jumps, and a critic of the pictures that they lead to.

    Where the network cannot follow a path exactly, least squares makes it say a mean of what it cannot tell apart; the
    critic makes it say one of these (Kim et al. 2023, section 4). Both learn from the same iteration's pictures.

    Args:
        denoiser: the map.
        teacher: whose paths are learned.
        eye: a frozen denoiser, through which the critic looks.
        critic: with a head for each of the eye's feature maps.
        config: what is taught.
        optimizer: how the map's weights move.

    Logged: "loss", "consistency", "critic".
    """

    def __init__(
        self,
        denoiser: PreconditionedFlowMap,
        teacher: Denoiser,
        eye: Preconditioned,
        critic: Critic,
        config: FlowMapConfig,
        optimizer: OptimizerConfig,
    ) -> None:
        super().__init__(denoiser, teacher, config, optimizer)
        self._eye = (eye,)  # a part of the teacher, which is registered
        self.critic = critic

    def optimizers(self) -> Optimizers:
        return super().optimizers() | self.config.critic.optimizer.build("critic", self.critic)

    def updates(self) -> list[Update]:
        every = tuple(self.optimizers())
        return [Update("map", optimizers=every, params=("denoiser", "critic"), loss=self.loss)]

    def loss(self, batch: Batch, context: Context) -> Losses:
        taught = self._taught(batch, context)
        consistency = taught.error.square().mean(dim=(1, 2, 3))
        ends = (taught.way.to.sigma == 0).to(consistency.dtype)  # with a picture
        low, high = self.config.critic.noise
        time = low + (high - low) * context.uniform("critic level")
        noise = context.noise("critic noise", tuple(batch.images.shape[1:]))

        def seen(pictures: Tensor) -> list[Tensor]:
            at = Level(1 - time, time)
            alpha, sigma = at.like(pictures)
            return self._eye[0].features((alpha * pictures).addcmul(sigma, noise), at, taught.cond)

        with torch.enable_grad():
            drawn = taught.said.detach().requires_grad_()
            features = seen(drawn)
            leaves = [one.detach().requires_grad_() for one in features]
            # Views, because whoever counts operations by module follows no leaf.
            scores = self.critic([one.view_as(one) for one in leaves], taught.cond)
            slopes = torch.autograd.grad(scores.mean(1).sum(), leaves, retain_graph=True)
            (up,) = torch.autograd.grad(features, drawn, slopes)
        # As strong as the pull towards the path, whatever the units of scores are.
        path = (taught.error / taught.way.at.sigma.clamp_min(0.02).reshape(-1, 1, 1, 1)).detach()
        pull = self.config.critic.pull * ends * _norm(path) / _norm(up).clamp_min(1e-12)
        praise = (taught.said * up).mean(dim=(1, 2, 3)) * 2 * pull
        with torch.no_grad():
            real = seen(batch.images)
        wrong = hinge(self.critic(real, taught.cond), scores)
        critic = (wrong * ends).mean()
        return {
            "loss": consistency.mean() - praise.mean() + critic,
            "consistency": consistency.mean(),
            "critic": critic,
        }


def _norm(x: Tensor) -> Tensor:
    """Of each sample, (N,)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3))
    return norm
