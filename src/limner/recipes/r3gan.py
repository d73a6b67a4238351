"""Recipe ``r3gan``: Huang et al. 2024, *The GAN is dead; long live the GAN! A modern GAN baseline*."""

from __future__ import annotations

from limner.models import R3GANConfig
from limner.objectives import AdamWConfig, AdversarialConfig, ZeroCentredPenalty
from limner.recipes.decode import AdversarialRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

# Few channels are best mixed all together, and hear more of a code by several bases (docs/report-card.md).
NETS: dict[Size, R3GANConfig] = {
    "tiny": R3GANConfig(width=16, expansion=1, group=1024, bases=4),
    "small": R3GANConfig(width=24, expansion=1, group=1024, bases=4),
    "base": R3GANConfig(width=64, blocks=2),
    "large": R3GANConfig(width=128, blocks=2, unshuffle=1),
}


def r3gan(size: Size = "small") -> AdversarialRecipe:
    """Each real picture against a made one, slopes of zero at both, and networks without norms."""
    return AdversarialRecipe(
        recipe="r3gan",
        net=NETS[size],
        objective=AdversarialConfig(game="relativistic", penalty=ZeroCentredPenalty(gamma=10.0, both=True, every=4)),
        optimizer=AdamWConfig(lr=2e-3, betas=(0.0, 0.99)),
        critic_optimizer=AdamWConfig(lr=2e-3, betas=(0.0, 0.99)),
        training=TrainingConfig(batch=64, clip=0.0, precision="float32"),
    )
