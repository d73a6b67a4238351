"""Recipe ``sagan``: Zhang et al. 2019, *Self-attention generative adversarial networks*."""

from __future__ import annotations

from dataclasses import replace

from limner.objectives import AdamWConfig, AdversarialConfig, ZeroCentredPenalty
from limner.recipes.decode import AdversarialRecipe
from limner.recipes.sizes import Size
from limner.recipes.wgan_gp import NETS
from limner.training.config import TrainingConfig


def sagan(size: Size = "small") -> AdversarialRecipe:
    """Self-attention and spectral norms in both networks, the hinge game, the critic at twice the rate; and smooth."""
    # As published, at a tenth of these rates, in batches of 256 and without a penalty, minutes are too few
    # (docs/report-card.md).
    return AdversarialRecipe(
        recipe="sagan",
        net=replace(NETS[size], spectral="both", code=80, attention=16, chunks=True),
        objective=AdversarialConfig(game="hinge", penalty=ZeroCentredPenalty(gamma=2.0, every=4)),
        optimizer=AdamWConfig(lr=1e-3, betas=(0.0, 0.99)),
        critic_optimizer=AdamWConfig(lr=2e-3, betas=(0.0, 0.99)),
        training=TrainingConfig(batch=32, clip=0.0, precision="float32"),
    )
