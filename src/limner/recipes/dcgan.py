"""Recipe ``dcgan``: Radford et al. 2015, *Unsupervised representation learning with deep convolutional GANs*."""

from __future__ import annotations

from limner.models import DCGANConfig
from limner.objectives import AdamWConfig, AdversarialConfig, ZeroCentredPenalty
from limner.recipes.decode import AdversarialRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

WIDTHS: dict[Size, int] = {"tiny": 32, "small": 48, "base": 64, "large": 128}


def dcgan(size: Size = "small") -> AdversarialRecipe:
    """The first convolutional GAN: strided convolutions, batch norms, the non-saturating game; and a smooth critic."""
    # As published, at a rate of 2e-4 and without a penalty, it collapses within classes (docs/report-card.md).
    adam = AdamWConfig(lr=1e-3, betas=(0.0, 0.99))
    return AdversarialRecipe(
        recipe="dcgan",
        net=DCGANConfig(width=WIDTHS[size]),
        objective=AdversarialConfig(game="non-saturating", penalty=ZeroCentredPenalty(gamma=2.0, every=4)),
        optimizer=adam,
        critic_optimizer=adam,
        training=TrainingConfig(batch=32, clip=0.0, precision="float32"),
    )
