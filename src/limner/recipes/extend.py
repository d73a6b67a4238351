"""The settings of models that write pictures site by site."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from limner.contracts import Autoregressor, Captioned, DataStats, ExtendConfig, ImageSpec
from limner.errors import UserError
from limner.models import AutoregressorNetConfig, DalleConfig, VQCodecConfig
from limner.objectives import (
    CaptionedLikelihood,
    CaptionedLikelihoodConfig,
    Likelihood,
    LikelihoodConfig,
    OptimizerConfig,
)
from limner.recipes.common import LatentSettings, guided
from limner.text import Reading, TextConfig
from limner.training.job import Lesson
from limner.training.snapshot import AutoregressorConfig

#: To draw a picture takes as long as to look at so many, or at one for each of fewer sites: a site at a time keeps few
#: cores busy.
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

    def lesson(
        self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats, reading: Reading | None = None
    ) -> Lesson:
        if isinstance(self.net, DalleConfig):
            raise UserError(f"{self.recipe} reads no texts, and --net.kind dalle does: limner train dalle")
        unconditional = not labels or self.objective.label_dropout > 0
        sampling = guided(self.sampling, bool(labels) and unconditional)
        config = AutoregressorConfig(self.net, spec, labels, sampling, unconditional)
        net = config.network()
        objective = Likelihood(net, self.objective, self.optimizer, spec)
        evaluations = _evaluations(net, sampling)
        return Lesson(objective, "autoregressor", config.model(net), config, evaluations)


@dataclass(frozen=True)
class TokenRecipe(ExtendRecipe):
    """An autoregressive model that cannot do without a codec.

    Attributes:
        wanted: of the codec, besides its name.
        scales: of one on which costs are counted.
    """

    wanted: ClassVar[str] = ""
    scales: ClassVar[tuple[int, ...]] = ()

    def codec_source(self) -> str:
        if not self.codec:
            raise UserError(
                f"{self.recipe} writes the tokens of a codec: train one with: limner train vq-codec --data SOURCE "
                f"--out runs/codec{self.wanted}, and then add --codec runs/codec"
            )
        return self.codec

    def learned(self, spec: ImageSpec) -> ImageSpec:
        return VQCodecConfig(scales=self.scales).codec(spec).token_spec(spec)


@dataclass(frozen=True)
class ScaleRecipe(TokenRecipe):
    """The same of a codec of several scales."""

    wanted: ClassVar[str] = " --net.scales 1 2 4 7 (the last one the longer side of its latents, 7 for 28x28 pictures)"
    scales: ClassVar[tuple[int, ...]] = (1, 2, 3, 5, 8)


@dataclass(frozen=True)
class CaptionedRecipe(TokenRecipe):
    """The same of pictures and their captions, which are learned together. Where pictures have classes too, captions
    are what counts."""

    net: DalleConfig
    objective: CaptionedLikelihoodConfig

    def reads(self) -> TextConfig | None:
        if not self.conditional:
            raise UserError(f"{self.recipe} learns captions: leave --no-conditional out, or train vqgpt without any")
        return self.net.text

    def lesson(
        self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats, reading: Reading | None = None
    ) -> Lesson:
        text = self.net.text if reading is None else reading.tokenizer.config
        unconditional = self.objective.label_dropout > 0
        sampling = guided(self.sampling, unconditional)
        config = AutoregressorConfig(
            replace(self.net, text=text),
            spec,
            (),
            sampling,
            unconditional,
            () if reading is None else reading.prompts,
        )
        net = config.network()
        assert isinstance(net, Captioned)
        objective = CaptionedLikelihood(net, self.objective, self.optimizer, spec)
        evaluations = _evaluations(net, sampling)
        tokenizer = None if reading is None else reading.tokenizer
        model = replace(config.model(net), text=tokenizer)
        return Lesson(objective, "autoregressor", model, config, evaluations, text=tokenizer)


def _evaluations(net: Autoregressor, sampling: ExtendConfig) -> int:
    """Of one drawing, guided ones twice."""
    return min(_EVALUATIONS, len(net.sites)) * (1 if sampling.guidance == 1 else 2)
