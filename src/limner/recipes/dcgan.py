"""Recipe ``dcgan``: Radford et al. 2015, *Unsupervised representation learning with deep convolutional GANs*."""

from __future__ import annotations

from limner.models import DCGANConfig
from limner.objectives import AdamWConfig, AdversarialConfig
from limner.recipes.decode import AdversarialRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

WIDTHS: dict[Size, int] = {"tiny": 32, "small": 64, "base": 96, "large": 128}


def dcgan(size: Size = "small") -> AdversarialRecipe:
    """The first convolutional GAN: strided convolutions, batch norms, the non-saturating game, Adam."""
    adam = AdamWConfig(lr=2e-4, betas=(0.5, 0.999))
    return AdversarialRecipe(
        recipe="dcgan",
        net=DCGANConfig(width=WIDTHS[size]),
        objective=AdversarialConfig(game="non-saturating"),
        optimizer=adam,
        critic_optimizer=adam,
        training=TrainingConfig(batch=64, clip=0.0, precision="float32"),
    )
