"""Recipe ``wgan``: Arjovsky et al. 2017, *Wasserstein GAN*."""

from __future__ import annotations

from limner.models import DCGANConfig
from limner.objectives import AdamWConfig, AdversarialConfig, Clipping
from limner.recipes.dcgan import WIDTHS
from limner.recipes.decode import AdversarialRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig


def wgan(size: Size = "small") -> AdversarialRecipe:
    """Wasserstein's distance by a critic of clipped weights, three steps of it for one of the generator; on dcgan's."""
    # RMSProp is Adam without the mean of slopes; for its published rate of 5e-5, five steps of the critic and weights
    # within 0.01, minutes are too few (docs/report-card.md).
    optimizer = AdamWConfig(lr=5e-4, betas=(0.0, 0.99))
    return AdversarialRecipe(
        recipe="wgan",
        net=DCGANConfig(width=WIDTHS[size]),
        objective=AdversarialConfig(game="wasserstein", critic_steps=3, penalty=Clipping(limit=0.02)),
        optimizer=optimizer,
        critic_optimizer=optimizer,
        training=TrainingConfig(batch=64, clip=0.0, precision="float32"),
    )
