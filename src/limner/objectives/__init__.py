"""What a model is taught, apart from what it is."""

from limner.objectives.adversarial import Adversarial, AdversarialConfig
from limner.objectives.augmentation import ADA, Augment, DiffAugment, NoAugment
from limner.objectives.clustering import Clustering
from limner.objectives.denoising import Denoising, DenoisingConfig
from limner.objectives.drifting import Drifting, DriftingConfig
from limner.objectives.elbo import ELBO, ELBOConfig
from limner.objectives.flow_map import FlowMapConfig, FlowMapping, MatchingConfig
from limner.objectives.likelihood import (
    CaptionedLikelihood,
    CaptionedLikelihoodConfig,
    Likelihood,
    LikelihoodConfig,
)
from limner.objectives.matching import MatchedFlowMapping
from limner.objectives.noise_levels import Discrete, LogitNormal, LogNormal, NoiseLevels
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import AdamWConfig, MuonConfig, OptimizerConfig, Optimizers
from limner.objectives.penalties import Clipping, GradientPenalty, NoPenalty, ZeroCentredPenalty
from limner.objectives.reconstruction import KLReconstruction, Reconstruction, ReconstructionConfig, VQReconstruction
from limner.objectives.variational import HybridDenoising

__all__ = [
    "ADA",
    "ELBO",
    "AdamWConfig",
    "Adversarial",
    "AdversarialConfig",
    "Augment",
    "Batch",
    "CaptionedLikelihood",
    "CaptionedLikelihoodConfig",
    "Clipping",
    "Clustering",
    "Context",
    "Denoising",
    "DenoisingConfig",
    "DiffAugment",
    "Discrete",
    "Drifting",
    "DriftingConfig",
    "ELBOConfig",
    "FlowMapConfig",
    "FlowMapping",
    "GradientPenalty",
    "HybridDenoising",
    "KLReconstruction",
    "Likelihood",
    "LikelihoodConfig",
    "LogNormal",
    "LogitNormal",
    "Losses",
    "MatchedFlowMapping",
    "MatchingConfig",
    "MuonConfig",
    "NoAugment",
    "NoPenalty",
    "NoiseLevels",
    "Objective",
    "OptimizerConfig",
    "Optimizers",
    "Reconstruction",
    "ReconstructionConfig",
    "Update",
    "VQReconstruction",
    "ZeroCentredPenalty",
]
