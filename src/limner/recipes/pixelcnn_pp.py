"""Recipe ``pixelcnn++``: Salimans et al. 2017, *PixelCNN++: improving the PixelCNN with discretized logistic mixture
likelihood and other modifications*."""

from __future__ import annotations

from limner.models import PixelCNNPPConfig
from limner.objectives import LikelihoodConfig, MuonConfig
from limner.recipes.extend import ExtendRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

NETS: dict[Size, PixelCNNPPConfig] = {
    "tiny": PixelCNNPPConfig(width=24, most=48, blocks=1),
    "small": PixelCNNPPConfig(width=32, most=64, blocks=2),
    "base": PixelCNNPPConfig(width=96, most=192, blocks=3, dropout=0.1),
    "large": PixelCNNPPConfig(width=160, most=320, blocks=5, dropout=0.5),
}


def pixelcnn_pp(size: Size = "small") -> ExtendRecipe:
    """Pixel by pixel, each a mixture of logistic distributions that two streams of causal convolutions say."""
    return ExtendRecipe(
        recipe="pixelcnn++",
        net=NETS[size],
        objective=LikelihoodConfig(),
        optimizer=MuonConfig(),
        training=TrainingConfig(batch=32, precision="float32"),
    )
