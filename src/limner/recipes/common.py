"""The settings that every recipe has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from limner.data import Augment
from limner.files import expanded
from limner.training.config import TrainingConfig, WatchConfig


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What does not depend on what is trained.

    Attributes:
        recipe: its name.
        training: batch, schedule, average, checkpoints.
        watch: what is drawn and measured on the way.
        augment: how training pictures are varied.
        conditional: steer by the data's classes, where it has any.
        seed: of the initial weights, the data's order and all noise.
    """

    recipe: Annotated[str, tyro.conf.Suppress]
    training: TrainingConfig = field(default_factory=TrainingConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    augment: Augment = field(default_factory=Augment)
    conditional: bool = True
    seed: int = 0

    def codec_source(self) -> str:
        """A run or a snapshot folder of the codec whose latents are learned instead of pixels, "" for none."""
        return ""


@dataclass(frozen=True, kw_only=True)
class LatentSettings(Settings):
    """Of what may be trained on the latents of a codec too.

    Attributes:
        codec: a run or a snapshot folder of kl-codec, whose latents are learned instead of pixels; "" for pixels.
    """

    codec: str = ""

    def __post_init__(self) -> None:
        if self.codec:  # a run may be looked at from another folder
            object.__setattr__(self, "codec", str(expanded(self.codec).resolve()))

    def codec_source(self) -> str:
        return self.codec
