"""What a model is taught, apart from what it is."""

from limner.objectives.adversarial import Adversarial, AdversarialConfig
from limner.objectives.denoising import Denoising, DenoisingConfig
from limner.objectives.elbo import ELBO, ELBOConfig
from limner.objectives.flow_map import FlowMapConfig, FlowMapping, MatchingConfig
from limner.objectives.matching import MatchedFlowMapping
from limner.objectives.noise_levels import Discrete, LogitNormal, LogNormal, NoiseLevels
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import AdamWConfig, MuonConfig, OptimizerConfig, Optimizers
from limner.objectives.penalties import Clipping, GradientPenalty, NoPenalty, ZeroCentredPenalty
from limner.objectives.variational import HybridDenoising

__all__ = [
    "ELBO",
    "AdamWConfig",
    "Adversarial",
    "AdversarialConfig",
    "Batch",
    "Clipping",
    "Context",
    "Denoising",
    "DenoisingConfig",
    "Discrete",
    "ELBOConfig",
    "FlowMapConfig",
    "FlowMapping",
    "GradientPenalty",
    "HybridDenoising",
    "LogNormal",
    "LogitNormal",
    "Losses",
    "MatchedFlowMapping",
    "MatchingConfig",
    "MuonConfig",
    "NoPenalty",
    "NoiseLevels",
    "Objective",
    "OptimizerConfig",
    "Optimizers",
    "Update",
    "ZeroCentredPenalty",
]
