"""What the training room asks of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import nn

from limner.contracts import DataStats, ImageSpec, Model
from limner.data import Augment
from limner.objectives import Objective
from limner.training.config import TrainingConfig, WatchConfig
from limner.training.showing import Reconstructions, Samples
from limner.training.snapshot import ModelConfig, model_of


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
    """

    objective: Objective
    network: str
    model: Model
    config: ModelConfig
    evaluations: int
    showing: type[Samples] | type[Reconstructions] = Samples

    def model_of(self, network: nn.Module) -> Model:
        """The model with another set of weights: a copy of its network."""
        return model_of(self.config, network)


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

    def lesson(self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats) -> Lesson:
        """Build the networks, with initial weights from the default generator."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
