"""What a model is taught, apart from what it is."""

from limner.objectives.denoising import Denoising, DenoisingConfig
from limner.objectives.noise_levels import LogitNormal, LogNormal, NoiseLevels
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import AdamWConfig, OptimizerConfig

__all__ = [
    "AdamWConfig",
    "Batch",
    "Context",
    "Denoising",
    "DenoisingConfig",
    "LogNormal",
    "LogitNormal",
    "Losses",
    "NoiseLevels",
    "Objective",
    "OptimizerConfig",
    "Update",
]
