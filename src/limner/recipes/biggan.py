"""Recipe ``biggan``: Brock et al. 2019, *Large scale GAN training for high fidelity natural image synthesis*."""

from __future__ import annotations

from dataclasses import replace

from limner.objectives import AdamWConfig, AdversarialConfig, ZeroCentredPenalty
from limner.recipes.decode import AdversarialRecipe
from limner.recipes.sizes import Size
from limner.recipes.wgan_gp import NETS
from limner.training.config import TrainingConfig


def biggan(size: Size = "small") -> AdversarialRecipe:
    """Norms told the class, a piece of the code for each block, orthogonal weights, attention; and a smooth critic."""
    # As published, with spectral norms, two critic steps and batches of 2,048, minutes are too few
    # (docs/report-card.md).
    adam = AdamWConfig(lr=1e-3, betas=(0.0, 0.99))
    return AdversarialRecipe(
        recipe="biggan",
        net=replace(NETS[size], code=80, attention=16, chunks=True),
        objective=AdversarialConfig(game="hinge", orthogonal=1e-4, penalty=ZeroCentredPenalty(gamma=2.0, every=4)),
        optimizer=adam,
        critic_optimizer=adam,
        of_classes=True,
        training=TrainingConfig(batch=32, clip=0.0, precision="float32"),
    )
