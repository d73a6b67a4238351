"""Flow maps that are distilled along a teacher's paths, and matched with the teacher's distribution.

Where a network cannot follow a path exactly, least squares makes it say a mean of what it cannot tell apart. Such
pictures are too grey, and a denoiser that has learned what *they* are made of says so: of a drawn picture under noise,
the teacher and that denoiser differ by the slope between the distribution of drawn pictures and the teacher's own (Yin
et al. 2024, *One-step diffusion with distribution matching distillation*, equation 7).
"""

from __future__ import annotations

import torch

from limner.contracts import Denoiser, Level
from limner.models import Preconditioned, PreconditionedFlowMap
from limner.objectives.flow_map import FlowMapConfig, FlowMapping
from limner.objectives.objective import Batch, Context, Losses, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers


class MatchedFlowMapping(FlowMapping):
    """Consistency of jumps, and a distribution of drawn pictures that is the teacher's.

    Args:
        denoiser: the map.
        teacher: whose paths are learned, and whose distribution is matched.
        other: a denoiser that learns what drawn pictures are made of; it begins as the teacher, unguided.
        config: what is taught.
        optimizer: how the weights of both move.

    Logged: "loss", "consistency", "other" (the other denoiser's own loss), "difference" (of the two, squared).
    """

    teacher: Denoiser

    def __init__(
        self,
        denoiser: PreconditionedFlowMap,
        teacher: Denoiser,
        other: Preconditioned,
        config: FlowMapConfig,
        optimizer: OptimizerConfig,
    ) -> None:
        super().__init__(denoiser, teacher, config, optimizer)
        self.other = other

    def optimizers(self) -> Optimizers:
        return super().optimizers() | self.optimizer.build("other", self.other)

    def updates(self) -> list[Update]:
        every = tuple(self.optimizers())
        return [Update("map", optimizers=every, params=("denoiser", "other"), loss=self.loss)]

    def loss(self, batch: Batch, context: Context) -> Losses:
        taught, matching = self.taught(batch, context), self.config.matching
        least, most = matching.noise
        time = least + (most - least) * context.uniform("matching level")
        at = Level(1 - time, time)
        alpha, sigma = at.like(batch.images)
        drawn = taught.said.detach()
        x = (alpha * drawn).addcmul(sigma, context.noise("matching noise", tuple(batch.images.shape[1:])))
        with torch.no_grad():
            real = self.teacher(x, at, taught.cond).x0
        seen = self.other(x, at, taught.cond).x0
        way = taught.way
        matched = ((way.to.sigma == 0) & (way.at.sigma >= matching.above)).to(x.dtype).reshape(-1, 1, 1, 1)
        difference = (real - seen.detach()) * matched
        # The path's end is moved to where the difference points.
        moved = taught.error - matching.pull * difference / taught.unit
        other = ((seen - drawn) / sigma).square().mul(matched).mean()
        return {
            "loss": moved.square().mean() + other,
            "consistency": taught.error.detach().square().mean(),
            "other": other.detach(),
            "difference": difference.square().mean(),
        }
