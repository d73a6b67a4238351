"""Maximum likelihood: the objective of models that write pictures site by site, perhaps after their texts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from limner.contracts import Autoregressor, Captioned, ImageSpec
from limner.errors import within
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers
from limner.text import NO_TOKEN
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


@dataclass(frozen=True)
class CaptionedLikelihoodConfig(LikelihoodConfig):
    """How it is taught pictures with their texts.

    Attributes:
        label_dropout: share of pictures whose text is not told, so that the model knows pictures without one too.
        text_share: weight of a text's nats a token in the loss; those of pictures have the rest (an eighth and seven
            eighths in section 2.2 of Ramesh et al. 2021).
    """

    text_share: float = 0.125

    def __post_init__(self) -> None:
        super().__post_init__()
        within("objective.text-share", self.text_share, 0, 1)


class CaptionedLikelihood(Likelihood):
    """-ln p of texts and of pictures after them.

    Logged: "image" and "text", in nats a token, and "loss", their weighted sum. Each text counts alike, however long it
    is, and one that is not told, or is empty, not at all: what a batch weighs does not depend on how it is cut.
    """

    def __init__(
        self, autoregressor: Captioned, config: CaptionedLikelihoodConfig, optimizer: OptimizerConfig, spec: ImageSpec
    ) -> None:
        super().__init__(autoregressor, config, optimizer, spec)
        self.share = config.text_share

    def loss(self, batch: Batch, context: Context) -> Losses:
        dropout = self.config.label_dropout
        cond = batch.cond.dropped(context.uniform("drop") < dropout)
        assert isinstance(self.autoregressor, Captioned)
        sites, words = self.autoregressor.log_probs(values_of(batch.images, self.spec), cond)
        image = -sites.mean()
        lengths = 1 if cond.text is None else (cond.text != NO_TOKEN).sum(1).clamp_min(1)
        text = -(words.sum(1) / lengths).mean() / max(1 - dropout, 1e-6)
        return {"loss": (1 - self.share) * image + self.share * text, "image": image, "text": text}
