"""Recipe ``kl-codec``: the autoencoder of Rombach et al. 2022, *High-resolution image synthesis with latent diffusion
models*."""

from __future__ import annotations

from limner.models import KLCodecConfig
from limner.objectives import AdamWConfig, MuonConfig, ReconstructionConfig
from limner.recipes.codec import KLCodecRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

NETS: dict[Size, KLCodecConfig] = {
    "tiny": KLCodecConfig(width=56),
    "small": KLCodecConfig(width=96),
    "base": KLCodecConfig(width=112, blocks=2, most=512),
    "large": KLCodecConfig(width=128, blocks=2, unshuffle=1, most=512),
}


def kl_codec(size: Size = "small") -> KLCodecRecipe:
    """A codec for latent models: small maps of normal latents, and pictures back from them."""
    return KLCodecRecipe(
        recipe="kl-codec",
        net=NETS[size],
        objective=ReconstructionConfig(),
        optimizer=MuonConfig(),
        critic_optimizer=AdamWConfig(lr=4e-4, betas=(0.5, 0.9)),
        training=TrainingConfig(batch=8, precision="float32"),
    )
