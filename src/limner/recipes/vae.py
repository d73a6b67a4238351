"""Recipe ``vae``: Kingma and Welling 2014, *Auto-encoding variational Bayes*, with convolutions and a learned width."""

from __future__ import annotations

from limner.models import VAEConfig
from limner.objectives import ELBOConfig, MuonConfig
from limner.recipes.decode import VAERecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

NETS: dict[Size, VAEConfig] = {
    "tiny": VAEConfig(width=16, code=16, couplings=6),
    "small": VAEConfig(width=24, code=24, couplings=6),
    "base": VAEConfig(width=64, code=64, couplings=6, most=512),
    "large": VAEConfig(width=128, code=128, couplings=6, most=1024),
}


def vae(size: Size = "small") -> VAERecipe:
    """A variational autoencoder: codes whose spread is learned, discretised logistic values around what they say."""
    return VAERecipe(
        recipe="vae",
        net=NETS[size],
        objective=ELBOConfig(),
        optimizer=MuonConfig(),
        training=TrainingConfig(batch=64, precision="float32"),
    )
