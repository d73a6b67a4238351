"""Recipe ``pixelcnn``: van den Oord et al. 2016, *Pixel recurrent neural networks*, with the gates and classes of
*Conditional image generation with PixelCNN decoders*."""

from __future__ import annotations

from limner.models import PixelCNNConfig
from limner.objectives import LikelihoodConfig, MuonConfig
from limner.recipes.extend import ExtendRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

NETS: dict[Size, PixelCNNConfig] = {
    "tiny": PixelCNNConfig(width=24, depth=4),
    "small": PixelCNNConfig(width=32, depth=6),
    "base": PixelCNNConfig(width=64, depth=10, dropout=0.1),
    "large": PixelCNNConfig(width=128, depth=15, dropout=0.5),
}


def pixelcnn(size: Size = "small") -> ExtendRecipe:
    """Value by value, each one of 256, that two streams of gated causal convolutions say of all before it."""
    return ExtendRecipe(
        recipe="pixelcnn",
        net=NETS[size],
        objective=LikelihoodConfig(),
        optimizer=MuonConfig(),
        training=TrainingConfig(batch=16, precision="float32"),
    )
