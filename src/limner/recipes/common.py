"""The settings that every recipe on pixels has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from limner.data import Augment
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
