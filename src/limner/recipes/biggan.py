"""Recipe ``biggan``: Brock et al. 2019, *Large scale GAN training for high fidelity natural image synthesis*."""

from __future__ import annotations

from limner.models import ResidualGANConfig
from limner.objectives import AdamWConfig, AdversarialConfig
from limner.recipes.decode import AdversarialRecipe
from limner.recipes.sizes import Size
from limner.recipes.wgan_gp import WIDTHS
from limner.training.config import TrainingConfig


def biggan(size: Size = "small") -> AdversarialRecipe:
    """SAGAN's parts, a piece of the code for each block, orthogonal weights, two critic steps, larger batches."""
    return AdversarialRecipe(
        recipe="biggan",
        net=ResidualGANConfig(width=WIDTHS[size], code=80, spectral="both", attention=16, chunks=True),
        objective=AdversarialConfig(game="hinge", critic_steps=2, orthogonal=1e-4),
        optimizer=AdamWConfig(lr=2e-4, betas=(0.0, 0.999)),
        critic_optimizer=AdamWConfig(lr=4e-4, betas=(0.0, 0.999)),
        of_classes=True,
        training=TrainingConfig(batch=128, clip=0.0, precision="float32"),
    )
