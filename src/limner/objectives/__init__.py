"""What a model is taught, apart from what it is."""

from limner.objectives.denoising import Denoising, DenoisingConfig
from limner.objectives.flow_map import FlowMapConfig, FlowMapping, MatchingConfig
from limner.objectives.matching import MatchedFlowMapping
from limner.objectives.noise_levels import Discrete, LogitNormal, LogNormal, NoiseLevels
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import AdamWConfig, MuonConfig, OptimizerConfig, Optimizers
from limner.objectives.variational import HybridDenoising

__all__ = [
    "AdamWConfig",
    "Batch",
    "Context",
    "Denoising",
    "DenoisingConfig",
    "Discrete",
    "FlowMapConfig",
    "FlowMapping",
    "HybridDenoising",
    "LogNormal",
    "LogitNormal",
    "Losses",
    "MatchedFlowMapping",
    "MatchingConfig",
    "MuonConfig",
    "NoiseLevels",
    "Objective",
    "OptimizerConfig",
    "Optimizers",
    "Update",
]
