"""The settings of flow maps: models that draw in one jump or a few."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from limner.contracts import DataStats, ImageSpec, SampleConfig
from limner.data import Augment
from limner.errors import UserError
from limner.models import NetConfig, Preconditioned, PreconditionedFlowMap
from limner.objectives import FlowMapConfig, FlowMapping, OptimizerConfig
from limner.sampling import Guided, evaluations
from limner.training.config import TrainingConfig, WatchConfig
from limner.training.job import Lesson
from limner.training.snapshot import DenoiserConfig, read_snapshot


@dataclass(frozen=True)
class FlowMapRecipe:
    """A flow map on pixels.

    Attributes:
        recipe: its name.
        net: shape of the network; a teacher's is taken where there is one.
        objective: what the network is taught.
        optimizer: how its weights move.
        teacher: a run or a snapshot folder of a denoiser that was trained on these pictures, whose guided paths are
            learned from its weights on; "" learns from the pictures alone.
        training: batch, schedule, average, checkpoints.
        sampling: how samples are drawn from the snapshot by default.
        watch: what is drawn and measured on the way.
        augment: how training pictures are varied.
        conditional: steer by the data's classes, where it has any.
        seed: of the initial weights, the data's order and all noise.
    """

    recipe: Annotated[str, tyro.conf.Suppress]
    net: NetConfig
    objective: FlowMapConfig
    optimizer: OptimizerConfig
    teacher: str = ""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampling: SampleConfig = field(default_factory=SampleConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    augment: Augment = field(default_factory=Augment)
    conditional: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.teacher:  # a run may be resumed from another folder
            object.__setattr__(self, "teacher", str(Path(self.teacher).expanduser().resolve()))

    def lesson(self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats) -> Lesson:
        if self.teacher:
            return self._distilled(spec, labels)
        config = DenoiserConfig(self.net.fitted(spec.size), "flow", stats, spec, labels, self.sampling, jumps=True)
        return self._lesson(config, config.denoiser(), None)

    def _distilled(self, spec: ImageSpec, labels: tuple[str, ...]) -> Lesson:
        taught, teacher = read_snapshot(self.teacher)
        if (taught.spec, taught.labels) != (spec, labels):
            raise UserError(
                f"the teacher {self.teacher} draws {taught.spec} of {len(taught.labels)} classes, and the pictures are "
                f"{spec} of {len(labels)}; give the --data and the --conditional that it was trained with"
            )
        if taught.jumps or taught.variance:
            raise UserError(f"the teacher {self.teacher} is no plain denoiser; train one with: limner train flow")
        config = DenoiserConfig(
            taught.net, taught.preconditioning, taught.stats, spec, labels, self.sampling, jumps=True
        )
        student = config.denoiser()
        missing, unknown = student.load_state_dict(teacher.state_dict(), strict=False)
        assert not unknown
        assert all("embed_jump" in name for name in missing), missing
        return self._lesson(config, student, Guided(teacher, taught.sampling))

    def _lesson(self, config: DenoiserConfig, student: Preconditioned, teacher: Guided | None) -> Lesson:
        assert isinstance(student, PreconditionedFlowMap)
        return Lesson(
            objective=FlowMapping(student, teacher, self.objective, self.optimizer),
            network="denoiser",
            model=config.model(student),
            config=config,
            evaluations=evaluations(self.sampling),
        )
