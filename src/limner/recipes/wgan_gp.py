"""Recipe ``wgan-gp``: Gulrajani et al. 2017, *Improved training of Wasserstein GANs*."""

from __future__ import annotations

from limner.models import ResidualGANConfig
from limner.objectives import AdamWConfig, AdversarialConfig, GradientPenalty
from limner.recipes.decode import AdversarialRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

#: Shared by the recipes on residual networks.
NETS: dict[Size, ResidualGANConfig] = {
    "tiny": ResidualGANConfig(width=12),
    "small": ResidualGANConfig(width=24),
    "base": ResidualGANConfig(width=64),
    "large": ResidualGANConfig(width=128, unshuffle=1),
}


def wgan_gp(size: Size = "small") -> AdversarialRecipe:
    """Wasserstein's distance by a critic with slopes of 1, two steps of it for one of the generator; residual."""
    # As published, five steps and a rate of 2e-4, minutes are too few (docs/report-card.md).
    adam = AdamWConfig(lr=1e-3, betas=(0.0, 0.9))
    return AdversarialRecipe(
        recipe="wgan-gp",
        net=NETS[size],
        objective=AdversarialConfig(game="wasserstein", critic_steps=2, penalty=GradientPenalty(weight=10.0)),
        optimizer=adam,
        critic_optimizer=adam,
        training=TrainingConfig(batch=32, clip=0.0, precision="float32"),
    )
