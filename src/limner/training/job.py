"""What the training room asks of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from torch import nn

from limner.contracts import Codec, DataStats, ImageSpec, Model
from limner.data import Augment
from limner.objectives import Objective
from limner.text import CaptionTokenizer, Reading, TextConfig
from limner.training.config import TrainingConfig, WatchConfig
from limner.training.showing import Reconstructions, Samples
from limner.training.snapshot import CodecConfig, ModelConfig, model_of, on_latents


@dataclass(frozen=True)
class Lesson:
    """A recipe made ready for certain pictures.

    Attributes:
        objective: what is trained.
        network: the submodule of the objective that a snapshot keeps.
        model: that network, ready to draw with its raw weights.
        config: rebuilds the model.
        evaluations: of the network, that one sample takes by default.
        showing: what is drawn and judged of it.
        codec: with what rebuilds it, where latents or tokens are learned and not pixels.
        text: what reads captions, where they are learned too.
    """

    objective: Objective
    network: str
    model: Model
    config: ModelConfig
    evaluations: int
    showing: type[Samples] | type[Reconstructions] = Samples
    codec: tuple[CodecConfig, Codec] | None = None
    text: CaptionTokenizer | None = None

    def model_of(self, network: nn.Module) -> Model:
        """The model with another set of weights: a copy of its network."""
        model = replace(model_of(self.config, network), text=self.text)
        return model if self.codec is None else on_latents(model, *self.codec)

    def behind(self, config: CodecConfig, codec: Codec) -> Lesson:
        """The lesson of latents or tokens that this codec makes pictures of."""
        return replace(self, codec=(config, codec), model=on_latents(self.model, config, codec))


class Recipe(Protocol):
    """A frozen dataclass with all settings of a training."""

    @property
    def recipe(self) -> str: ...
    @property
    def training(self) -> TrainingConfig: ...
    @property
    def watch(self) -> WatchConfig: ...
    @property
    def augment(self) -> Augment: ...
    @property
    def seed(self) -> int: ...
    @property
    def conditional(self) -> bool: ...

    @property
    def writes(self) -> bool:
        """Whether tokens of a codec are learned, and not latents."""

    def codec_source(self) -> str:
        """A run or a snapshot folder of the codec whose latents or tokens are learned instead of pixels, "" for none.

        Raises:
            UserError: there is none, and it cannot do without.
        """

    def advice(self, times: float, side: int) -> list[str]:
        """What to know before a training that shows each picture so many times, whose longer side has so many pixels:
        lines."""

    def reads(self) -> TextConfig | None:
        """How captions are to be read, None where they are not learned."""

    def lesson(
        self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats, reading: Reading | None = None
    ) -> Lesson:
        """Build the networks, with initial weights from the default generator. ``reading`` is of the captions; where
        it is asked for but costs are only counted there is none."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
