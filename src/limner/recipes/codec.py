"""The settings of codecs that are trained by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from limner.contracts import DataStats, ImageSpec, ReconstructConfig
from limner.features.perceptual import perceptual
from limner.models import KLCodecConfig, PaletteConfig, PatchCritic, VQCodecConfig
from limner.objectives import (
    Clustering,
    KLReconstruction,
    OptimizerConfig,
    Reconstruction,
    ReconstructionConfig,
    VQReconstruction,
)
from limner.recipes.common import Settings
from limner.text import Reading
from limner.training.job import Lesson
from limner.training.showing import Reconstructions
from limner.training.snapshot import CodecConfig

if TYPE_CHECKING:
    from limner.models import CodecNetConfig


@dataclass(frozen=True)
class _CodecRecipe(Settings):
    """What both kinds share.

    Attributes:
        objective: what is weighed.
        optimizer: how the codec's weights move.
        critic_optimizer: how the weights of its critic move, where it has one.
        sampling: a codec draws nothing of its own.
    """

    objective: ReconstructionConfig
    optimizer: OptimizerConfig
    critic_optimizer: OptimizerConfig
    sampling: ReconstructConfig = ReconstructConfig()  # noqa: RUF009 - frozen

    def _lesson(self, net: CodecNetConfig, kind: type[Reconstruction], spec: ImageSpec) -> Lesson:
        config = CodecConfig(net, spec)
        codec = config.network()
        critic = PatchCritic(spec) if self.objective.adversarial else None
        maps = perceptual(self.objective.extractor)
        objective = kind(codec, critic, self.objective, self.optimizer, self.critic_optimizer, maps)
        return Lesson(objective, "codec", config.model(codec), config, evaluations=1, showing=Reconstructions)


@dataclass(frozen=True)
class KLCodecRecipe(_CodecRecipe):
    """A codec of normal latents.

    Attributes:
        net: shape of both halves.
    """

    net: KLCodecConfig = KLCodecConfig()  # noqa: RUF009 - frozen

    def lesson(
        self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats, reading: Reading | None = None
    ) -> Lesson:
        return self._lesson(self.net, KLReconstruction, spec)


@dataclass(frozen=True)
class VQCodecRecipe(_CodecRecipe):
    """A codec of codes.

    Attributes:
        net: shape of both halves, and the codes.
    """

    net: VQCodecConfig = VQCodecConfig()  # noqa: RUF009 - frozen

    def lesson(
        self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats, reading: Reading | None = None
    ) -> Lesson:
        return self._lesson(self.net, VQReconstruction, spec)


@dataclass(frozen=True)
class PaletteRecipe(Settings):
    """A codec of colours.

    Attributes:
        net: how many.
        optimizer: how they move.
        sampling: a codec draws nothing of its own.
    """

    optimizer: OptimizerConfig
    net: PaletteConfig = PaletteConfig()  # noqa: RUF009 - frozen
    sampling: ReconstructConfig = ReconstructConfig()  # noqa: RUF009 - frozen

    def lesson(
        self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats, reading: Reading | None = None
    ) -> Lesson:
        config = CodecConfig(self.net, spec)
        codec = self.net.codec(spec)
        objective = Clustering(codec, self.optimizer)
        return Lesson(objective, "codec", config.model(codec), config, evaluations=1, showing=Reconstructions)
