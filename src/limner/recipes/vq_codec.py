"""Recipe ``vq-codec``: van den Oord et al. 2017, *Neural discrete representation learning*, with codes that follow."""

from __future__ import annotations

from limner.models import VQCodecConfig
from limner.objectives import AdamWConfig, MuonConfig, ReconstructionConfig
from limner.recipes.codec import VQCodecRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

NETS: dict[Size, VQCodecConfig] = {
    "tiny": VQCodecConfig(width=56, codes=256),
    "small": VQCodecConfig(width=96, codes=512),
    "base": VQCodecConfig(width=112, blocks=2, most=512, codes=1024),
    "large": VQCodecConfig(width=128, blocks=2, unshuffle=1, most=512, codes=4096),
}


def vq_codec(size: Size = "small") -> VQCodecRecipe:
    """A codec for models that write codes: small maps of one of some hundred codes each, and pictures back."""
    return VQCodecRecipe(
        recipe="vq-codec",
        net=NETS[size],
        objective=ReconstructionConfig(),
        optimizer=MuonConfig(),
        critic_optimizer=AdamWConfig(lr=4e-4, betas=(0.5, 0.9)),
        training=TrainingConfig(batch=16, precision="float32"),
    )
