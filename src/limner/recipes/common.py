"""The settings that every recipe has."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, TypeVar

import tyro

from limner.contracts import ExtendConfig, ImageSpec, RefineConfig
from limner.data import Augment
from limner.files import expanded
from limner.text import TextConfig
from limner.training.config import TrainingConfig, WatchConfig

Sampling = TypeVar("Sampling", RefineConfig, ExtendConfig)

#: Shown as often as this, pictures begin to come back as they are (docs/report-card.md, "Few pictures").
MANY_TIMES = 150


def shown_often(times: float) -> str:
    """What comes of it."""
    return f"each picture is shown about {times:,.0f} times, until much of what is drawn is a near copy of one"


def shifts(side: int) -> int:
    """Pixels that pictures with so long a side may be shifted by: one of 28, as measured, and in proportion."""
    return max(1, round(side / 28))


def guided(sampling: Sampling, steerable: bool) -> Sampling:
    """Without guidance where there is nothing to steer to, or away from."""
    return sampling if steerable else replace(sampling, guidance=1.0)


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

    writes: ClassVar[bool] = False

    def codec_source(self) -> str:
        """A run or a snapshot folder of the codec whose latents or tokens are learned instead of pixels, "" for none.

        Raises:
            UserError: there is none, and it cannot do without.
        """
        return ""

    def reads(self) -> TextConfig | None:
        """How captions are to be read, None where they are not learned.

        Raises:
            UserError: they must be, and are not wanted.
        """
        return None

    def learned(self, spec: ImageSpec) -> ImageSpec:
        """What is learned of pictures of this kind where costs are counted: themselves, unless it cannot do without a
        codec."""
        return spec

    def advice(self, times: float, side: int) -> list[str]:
        """What to know before a training that shows each picture so many times, whose longer side has so many pixels:
        lines."""
        return []


@dataclass(frozen=True, kw_only=True)
class LatentSettings(Settings):
    """Of what may be trained behind a codec too.

    Attributes:
        codec: a run or a snapshot folder of a codec: the latents of kl-codec are learned instead of pixels, or, by what
            writes, the tokens of vq-codec or palette; "" for pixels.
    """

    codec: str = ""

    def __post_init__(self) -> None:
        if self.codec:  # a run may be looked at from another folder
            object.__setattr__(self, "codec", str(expanded(self.codec).resolve()))

    def codec_source(self) -> str:
        return self.codec

    def advice(self, times: float, side: int) -> list[str]:
        if times < MANY_TIMES or self.augment.crop:
            return []
        return [f"{shown_often(times)}: shifted by a pixel or so they leave far fewer, --augment.crop {shifts(side)}"]
