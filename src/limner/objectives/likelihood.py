"""Maximum likelihood: the objective of models that write pictures site by site."""

from __future__ import annotations

import math
from dataclasses import dataclass

from limner.contracts import Autoregressor, ImageSpec
from limner.errors import within
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers
from limner.writing import values_of


@dataclass(frozen=True)
class LikelihoodConfig:
    """How it is taught.

    Attributes:
        label_dropout: share of pictures whose class is not told, so that the model knows pictures without one too.
    """

    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        within("objective.label-dropout", self.label_dropout, 0, 1)


class Likelihood(Objective):
    """-ln p of pictures, or of their tokens.

    Logged: "loss", in bits a dimension of the picture, or in nats a token.
    """

    ema = ("autoregressor",)

    def __init__(
        self, autoregressor: Autoregressor, config: LikelihoodConfig, optimizer: OptimizerConfig, spec: ImageSpec
    ) -> None:
        super().__init__()
        self.autoregressor, self.config, self.optimizer, self.spec = autoregressor, config, optimizer, spec

    def optimizers(self) -> Optimizers:
        return self.optimizer.build("autoregressor", self.autoregressor)

    def updates(self) -> list[Update]:
        return [Update("write", optimizers=tuple(self.optimizers()), params=("autoregressor",), loss=self.loss)]

    def loss(self, batch: Batch, context: Context) -> Losses:
        cond = batch.cond.dropped(context.uniform("drop") < self.config.label_dropout)
        values = values_of(batch.images, self.spec)
        nats = self.autoregressor.log_prob(values, cond).sum(1).mean()
        return {"loss": -nats / (values.shape[1] * (1 if self.spec.codes else math.log(2)))}
