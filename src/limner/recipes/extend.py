"""The settings of models that write pictures site by site."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from limner.contracts import DataStats, ExtendConfig, ImageSpec
from limner.errors import UserError
from limner.models import AutoregressorNetConfig, VQCodecConfig
from limner.objectives import Likelihood, LikelihoodConfig, OptimizerConfig
from limner.recipes.common import LatentSettings
from limner.training.job import Lesson
from limner.training.snapshot import AutoregressorConfig

#: To draw a picture takes as long as to look at so many: a site at a time keeps few cores busy.
_EVALUATIONS = 20


@dataclass(frozen=True)
class ExtendRecipe(LatentSettings):
    """An autoregressive model, on pixels or tokens.

    Attributes:
        net: shape of the network.
        objective: how it is taught.
        optimizer: how the weights move.
        sampling: how samples are drawn from the snapshot by default.
    """

    net: AutoregressorNetConfig
    objective: LikelihoodConfig
    optimizer: OptimizerConfig
    sampling: ExtendConfig = field(default_factory=ExtendConfig)

    writes: ClassVar[bool] = True

    def lesson(self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats) -> Lesson:
        unconditional = not labels or self.objective.label_dropout > 0
        config = AutoregressorConfig(self.net, spec, labels, self.sampling, unconditional)
        net = config.network()
        objective = Likelihood(net, self.objective, self.optimizer, spec)
        return Lesson(objective, "autoregressor", config.model(net), config, evaluations=_EVALUATIONS)


@dataclass(frozen=True)
class TokenRecipe(ExtendRecipe):
    """An autoregressive model that cannot do without a codec."""

    def codec_source(self) -> str:
        if not self.codec:
            raise UserError(
                f"{self.recipe} writes the tokens of a codec: train one with: limner train vq-codec --data SOURCE "
                "--out runs/codec, and then add --codec runs/codec"
            )
        return self.codec

    def learned(self, spec: ImageSpec) -> ImageSpec:
        return VQCodecConfig().codec(spec).token_spec(spec)
