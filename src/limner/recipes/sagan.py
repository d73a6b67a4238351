"""Recipe ``sagan``: Zhang et al. 2019, *Self-attention generative adversarial networks*."""

from __future__ import annotations

from limner.models import ResidualGANConfig
from limner.objectives import AdamWConfig, AdversarialConfig
from limner.recipes.decode import AdversarialRecipe
from limner.recipes.sizes import Size
from limner.recipes.wgan_gp import WIDTHS
from limner.training.config import TrainingConfig


def sagan(size: Size = "small") -> AdversarialRecipe:
    """Self-attention and spectral norms in both networks, the hinge game, the critic at four times the rate."""
    return AdversarialRecipe(
        recipe="sagan",
        net=ResidualGANConfig(width=WIDTHS[size], spectral="both", attention=16),
        objective=AdversarialConfig(game="hinge"),
        optimizer=AdamWConfig(lr=1e-4, betas=(0.0, 0.9)),
        critic_optimizer=AdamWConfig(lr=4e-4, betas=(0.0, 0.9)),
        training=TrainingConfig(batch=64, clip=0.0, precision="float32"),
    )
