"""Drifting: a generator follows a field that draws its pictures to real ones and apart from each other, which is zero
where both are distributed alike (Deng et al. 2026, *Generative modeling via drifting*). No critic, no steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.contracts import Generator
from limner.distributed import gathered
from limner.errors import UserError, within
from limner.models.layers import Together
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers

#: Logits of pairs that do not count.
_NEVER = -1e9


@dataclass(frozen=True)
class DriftingConfig:
    """How the field looks at pictures.

    Attributes:
        temperatures: reaches of the kernel exp(-distance / temperature), in mean distances; a field of each is summed.
        halvings: pictures are also compared at so many smaller sizes, each half of the one before.
    """

    temperatures: tuple[float, ...] = (0.02, 0.05, 0.2)
    halvings: int = 0

    def __post_init__(self) -> None:
        if not self.temperatures:
            raise UserError("objective.temperatures is empty; give at least one, 0.05 say")
        for temperature in self.temperatures:
            within("objective.temperatures", temperature, 1e-6, 1000)
        within("objective.halvings", self.halvings, 0, 10)


class Drifting(Objective, Together):
    """A generator whose pictures move as the field has it, each among those of its class in the batch.

    Logged: "loss", whose size says nothing, because fields are brought to size; and "drift", the share of a mean
    distance by which the widest field would move a picture, which falls as both distributions become alike.
    """

    ema = ("generator",)

    def __init__(self, generator: Generator, config: DriftingConfig, optimizer: OptimizerConfig) -> None:
        super().__init__()
        self.generator, self.config, self.optimizer = generator, config, optimizer

    def optimizers(self) -> Optimizers:
        return self.optimizer.build("generator", self.generator)

    def updates(self) -> list[Update]:
        return [Update("drift", optimizers=tuple(self.optimizers()), params=("generator",), loss=self.loss)]

    def loss(self, batch: Batch, context: Context) -> Losses:
        """Squared distances of features from where they drift to (equation 6), summed over sizes of pictures."""
        net = self.generator
        made = net(context.noise("code", (net.code,)), batch.cond, context.noise)
        label = torch.zeros_like(batch.samples) if batch.cond.label is None else batch.cond.label
        losses, moves = [], []
        real = batch.images
        for level in range(self.config.halvings + 1):
            if level:
                real, made = F.avg_pool2d(real, 2, ceil_mode=True), F.avg_pool2d(made, 2, ceil_mode=True)
            loss, move = self._one(made.flatten(1), real.flatten(1), label, batch.samples)
            losses.append(loss)
            moves.append(move)
        return {"loss": torch.stack(losses).sum(), "drift": moves[0]}

    def _one(self, made: Tensor, real: Tensor, label: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        x = made.detach()
        every, others, labels, numbers = (gathered(part, self.world) for part in (x, real, label, samples))
        same = labels[:, None] == labels
        whole = torch.cat([same, same & (numbers[:, None] != numbers)], dim=1)
        distances = torch.cat([torch.cdist(every, others), torch.cdist(every, every)], dim=1)
        # No shape depends on values, so that costs can be counted without computing any.
        unit = ((distances * whole).sum() / whole.sum()).clamp_min(1e-12)
        mine = (samples[:, None] == numbers).to(torch.uint8).argmax(1)
        target, move = x / unit, x.new_zeros(())
        for temperature in self.config.temperatures:
            pull = field(every, others, distances / (unit * temperature), whole) / unit
            move = pull.norm(dim=1).mean()
            size = pull.square().mean().sqrt().clamp_min(1e-12)
            target = target + pull[mine] / size
        scale = made.shape[1]
        return (made / unit - target).square().sum(1).mean() / scale, move


def field(made: Tensor, real: Tensor, distances: Tensor, counted: Tensor) -> Tensor:
    """Where made features (N, D) drift to, (N, D): V of equations 8 and 11, with the kernel brought to size over both
    its arguments (section 3.4 and algorithm 2).

    Args:
        made: (N, D).
        real: (M, D).
        distances: in temperatures, (N, M + N), from each made one to the real ones and to the made ones.
        counted: (N, M + N) bool, which pairs count.
    """
    logits = (-distances).masked_fill(~counted, _NEVER)
    near = (logits.log_softmax(1) + logits.log_softmax(0)).div(2).exp() * counted
    to_real, to_made = near[:, : len(real)], near[:, len(real) :]
    attracted = to_real * to_made.sum(1, keepdim=True)
    repelled = to_made * to_real.sum(1, keepdim=True)
    out: Tensor = attracted @ real - repelled @ made
    return out
