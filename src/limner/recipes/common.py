"""The settings that every recipe on pixels has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from limner.contracts import SampleConfig
from limner.data import Augment
from limner.objectives import OptimizerConfig
from limner.training.config import TrainingConfig, WatchConfig


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What does not depend on what is trained.

    Attributes:
        recipe: its name.
        optimizer: how the weights move.
        training: batch, schedule, average, checkpoints.
        sampling: how samples are drawn from the snapshot by default.
        watch: what is drawn and measured on the way.
        augment: how training pictures are varied.
        conditional: steer by the data's classes, where it has any.
        seed: of the initial weights, the data's order and all noise.
    """

    recipe: Annotated[str, tyro.conf.Suppress]
    optimizer: OptimizerConfig
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampling: SampleConfig = field(default_factory=SampleConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    augment: Augment = field(default_factory=Augment)
    conditional: bool = True
    seed: int = 0
