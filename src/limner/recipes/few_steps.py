"""The settings of flow maps: models that draw in one jump or a few."""

from __future__ import annotations

from dataclasses import dataclass

from limner.contracts import DataStats, ImageSpec, RefineConfig
from limner.errors import UserError
from limner.files import expanded
from limner.models import NetConfig, Preconditioned, PreconditionedFlowMap, Row
from limner.objectives import FlowMapConfig, FlowMapping, MatchedFlowMapping, OptimizerConfig
from limner.recipes.common import LatentSettings
from limner.sampling import Guided, evaluations
from limner.text import Reading
from limner.training.job import Lesson
from limner.training.snapshot import DenoiserConfig, codec_of, read_snapshot


@dataclass(frozen=True)
class FlowMapRecipe(LatentSettings):
    """A flow map, on pixels or latents.

    Attributes:
        net: shape of the network; a teacher's is taken where there is one.
        objective: what the network is taught.
        optimizer: how the weights move.
        sampling: how samples are drawn from the snapshot by default.
        teacher: a run or a snapshot folder of a denoiser that was trained on these pictures, whose guided paths are
            learned from its weights on; "" learns from the pictures alone.
    """

    net: NetConfig
    objective: FlowMapConfig
    optimizer: OptimizerConfig
    sampling: RefineConfig
    teacher: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher:  # a run may be resumed from another folder
            object.__setattr__(self, "teacher", str(expanded(self.teacher).resolve()))
        if self.teacher and self.codec:
            raise UserError("a model is taught on the latents of its teacher's own codec; leave --codec out")

    def codec_source(self) -> str:
        own = codec_of(self.teacher) if self.teacher else None
        return str(own) if own else self.codec

    def lesson(
        self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats, reading: Reading | None = None
    ) -> Lesson:
        if self.teacher:
            return self._distilled(spec, labels)
        config = self._config(self.net.fitted(spec.size), "flow", stats, spec, labels)
        student = config.network()
        assert isinstance(student, PreconditionedFlowMap)
        return self._lesson(config, FlowMapping(student, None, self.objective, self.optimizer))

    def _distilled(self, spec: ImageSpec, labels: tuple[str, ...]) -> Lesson:
        taught, teacher = self._teacher()
        if (taught.spec, taught.labels) != (spec, labels):
            raise UserError(
                f"the teacher {self.teacher} draws {taught.spec} of {len(taught.labels)} classes, and the pictures are "
                f"{spec} of {len(labels)}; give the --data and the --conditional that it was trained with"
            )
        if taught.jumps or taught.variance:
            raise UserError(f"the teacher {self.teacher} is no plain denoiser; train one with: limner train flow")
        if taught.preconditioning == "vp":
            raise UserError(
                f"the teacher {self.teacher} says the noise, which tells nothing where a jump begins; train one with: "
                "limner train flow"
            )
        config = self._config(taught.net, taught.preconditioning, taught.stats, spec, labels)
        student = config.network()
        missing, unknown = student.load_state_dict(teacher.state_dict(), strict=False)
        assert not unknown
        assert all("embed_jump" in name for name in missing), missing
        assert isinstance(student, PreconditionedFlowMap)
        paths, settings = Guided(teacher, taught.sampling), (self.objective, self.optimizer)
        if not self.objective.matching.pull:
            return self._lesson(config, FlowMapping(student, paths, *settings))
        _, other = self._teacher()
        return self._lesson(config, MatchedFlowMapping(student, paths, other.requires_grad_(True), *settings))

    def _teacher(self) -> tuple[DenoiserConfig, Preconditioned]:
        config, net = read_snapshot(self.teacher)
        if not isinstance(config, DenoiserConfig) or not isinstance(net, Preconditioned):
            raise UserError(f"the teacher {self.teacher} is no denoiser; train one with: limner train flow")
        return config, net

    def _config(
        self, net: NetConfig, row: Row, stats: DataStats, spec: ImageSpec, labels: tuple[str, ...]
    ) -> DenoiserConfig:
        unconditional = not labels or self.objective.label_dropout > 0
        return DenoiserConfig(net, row, stats, spec, labels, self.sampling, jumps=True, unconditional=unconditional)

    def _lesson(self, config: DenoiserConfig, objective: FlowMapping) -> Lesson:
        return Lesson(
            objective=objective,
            network="denoiser",
            model=config.model(objective.denoiser),
            config=config,
            evaluations=evaluations(self.sampling),
        )
