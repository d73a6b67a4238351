"""The settings of generators: those that learn from a critic, those that drift, and variational autoencoders."""

from __future__ import annotations

from dataclasses import dataclass, field

from limner.contracts import Autoencoding, DataStats, DecodeConfig, ImageSpec
from limner.errors import UserError
from limner.models import AdversarialNetConfig, VAEConfig
from limner.objectives import (
    ELBO,
    Adversarial,
    AdversarialConfig,
    Drifting,
    DriftingConfig,
    ELBOConfig,
    NoAugment,
    OptimizerConfig,
)
from limner.recipes.common import MANY_TIMES, Settings, shifts, shown_often
from limner.text import Reading
from limner.training.job import Lesson
from limner.training.snapshot import GeneratorConfig


def suits_few(times: float, side: int) -> str:
    """What so few pictures suit."""
    return f"{shown_often(times)}: limner train flow --augment.crop {shifts(side)} leaves fewer, and comes nearer"


@dataclass(frozen=True)
class AdversarialRecipe(Settings):
    """A generator and its critic, on pixels.

    Attributes:
        net: shape of both networks.
        objective: how they play.
        optimizer: how the generator's weights move.
        critic_optimizer: how the critic's weights move.
        sampling: how samples are drawn from the snapshot by default.
        of_classes: whether it is made for pictures of classes.

    Raises:
        UserError: it is, and the pictures have none, or only one.
    """

    net: AdversarialNetConfig
    objective: AdversarialConfig
    optimizer: OptimizerConfig
    critic_optimizer: OptimizerConfig
    sampling: DecodeConfig = field(default_factory=DecodeConfig)
    of_classes: bool = False

    def advice(self, times: float, side: int) -> list[str]:
        if times < MANY_TIMES:
            return []
        changed = ", and so does changing them before the critic sees them, --objective.augment.kind ada"
        return [suits_few(times, side) + (changed if isinstance(self.objective.augment, NoAugment) else "")]

    def lesson(
        self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats, reading: Reading | None = None
    ) -> Lesson:
        if self.of_classes and self.conditional and len(labels) < 2:
            raise UserError(
                f"{self.recipe} is made for pictures of classes, and these have {'one' if labels else 'none'}: put "
                "them into folders, one a class, or train sagan, or say --no-conditional"
            )
        config = GeneratorConfig(self.net, spec, labels, self.sampling)
        generator = config.network()
        critic = self.net.critic(spec, len(labels))
        optimizers = (self.optimizer, self.critic_optimizer)
        objective = Adversarial(generator, critic, self.objective, *optimizers, classes=len(labels))
        return Lesson(objective, "generator", config.model(generator), config, evaluations=1)


@dataclass(frozen=True)
class DriftRecipe(Settings):
    """A generator that follows a field, on pixels.

    Attributes:
        net: shape of the generator.
        objective: what the field looks at.
        optimizer: how the weights move.
        sampling: how samples are drawn from the snapshot by default.
    """

    net: AdversarialNetConfig
    objective: DriftingConfig
    optimizer: OptimizerConfig
    sampling: DecodeConfig = field(default_factory=DecodeConfig)

    def advice(self, times: float, side: int) -> list[str]:
        return [suits_few(times, side)] if times >= MANY_TIMES else []

    def lesson(
        self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats, reading: Reading | None = None
    ) -> Lesson:
        config = GeneratorConfig(self.net, spec, labels, self.sampling)
        generator = config.network()
        objective = Drifting(generator, self.objective, self.optimizer)
        return Lesson(objective, "generator", config.model(generator), config, evaluations=1)


@dataclass(frozen=True)
class VAERecipe(Settings):
    """A variational autoencoder on pixels.

    Attributes:
        net: shape of encoder and decoder.
        objective: what is weighed.
        optimizer: how the weights move.
        sampling: how samples are drawn from the snapshot by default.
    """

    net: VAEConfig
    objective: ELBOConfig
    optimizer: OptimizerConfig
    sampling: DecodeConfig = field(default_factory=DecodeConfig)

    def advice(self, times: float, side: int) -> list[str]:
        return [suits_few(times, side)] if times >= MANY_TIMES else []

    def lesson(
        self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats, reading: Reading | None = None
    ) -> Lesson:
        config = GeneratorConfig(self.net, spec, labels, self.sampling)
        generator = config.network()
        assert isinstance(generator, Autoencoding)
        objective = ELBO(generator, self.objective, self.optimizer, 2**spec.bits)
        return Lesson(objective, "generator", config.model(generator), config, evaluations=1)
