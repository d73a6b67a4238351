"""The settings of models that refine noise, whatever they are taught."""

from __future__ import annotations

from dataclasses import dataclass, replace

from limner.contracts import DataStats, ImageSpec, RefineConfig
from limner.models import NetConfig, Preconditioned
from limner.objectives import Denoising, DenoisingConfig, Discrete, HybridDenoising, OptimizerConfig
from limner.recipes.common import LatentSettings, guided
from limner.sampling import evaluations
from limner.text import Reading
from limner.training.job import Lesson
from limner.training.snapshot import DenoiserConfig


@dataclass(frozen=True)
class RefineRecipe(LatentSettings):
    """A denoiser, on pixels or latents.

    Attributes:
        net: shape of the network.
        objective: what the network is taught.
        optimizer: how the weights move.
        sampling: how samples are drawn from the snapshot by default.
    """

    net: NetConfig
    objective: DenoisingConfig
    optimizer: OptimizerConfig
    sampling: RefineConfig

    def lesson(
        self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats, reading: Reading | None = None
    ) -> Lesson:
        unconditional = not labels or self.objective.label_dropout > 0
        sampling = guided(self.sampling, bool(labels) and unconditional)
        if isinstance(self.objective.levels, Discrete):  # what is drawn begins where training ended
            schedule = self.objective.levels.schedule
            sampling = replace(sampling, noise_schedule=schedule.name, zero_terminal_snr=schedule.zero_terminal_snr)
        config = DenoiserConfig(
            self.net.fitted(spec.size),
            self.objective.preconditioning,
            stats,
            spec,
            labels,
            sampling,
            variance=self.objective.variance == "learned",
            unconditional=unconditional,
        )
        net = config.network()
        return Lesson(
            objective=self._objective(net),
            network="denoiser",
            model=config.model(net),
            config=config,
            evaluations=evaluations(sampling),
        )

    def _objective(self, net: Preconditioned) -> Denoising:
        levels = self.objective.levels
        if self.objective.variance == "learned" and isinstance(levels, Discrete):
            return HybridDenoising(net, self.objective, levels, self.optimizer)
        return Denoising(net, self.objective, self.optimizer)
