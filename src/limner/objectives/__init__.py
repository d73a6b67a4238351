"""What a model is taught, apart from what it is."""

from limner.objectives.denoising import Denoising, DenoisingConfig
from limner.objectives.noise_levels import LogitNormal, LogNormal, NoiseLevels
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import AdamWConfig, MuonConfig, OptimizerConfig, Optimizers

__all__ = [
    "AdamWConfig",
    "Batch",
    "Context",
    "Denoising",
    "DenoisingConfig",
    "LogNormal",
    "LogitNormal",
    "Losses",
    "MuonConfig",
    "NoiseLevels",
    "Objective",
    "OptimizerConfig",
    "Optimizers",
    "Update",
]
