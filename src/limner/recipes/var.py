"""Recipe ``var``: Tian et al. 2024, *Visual autoregressive modeling: scalable image generation via next-scale
prediction*."""

from __future__ import annotations

from limner.contracts import ExtendConfig
from limner.models import VARConfig
from limner.objectives import LikelihoodConfig, MuonConfig
from limner.recipes.extend import ScaleRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

NETS: dict[Size, VARConfig] = {
    "tiny": VARConfig(width=96, depth=4, heads=3),
    "small": VARConfig(width=144, depth=5, heads=3),
    "base": VARConfig(width=384, depth=12, heads=6, dropout=0.1),
    "large": VARConfig(width=768, depth=24, heads=12, dropout=0.1),
}


def var(size: Size = "small") -> ScaleRecipe:
    """Scale by scale of a vq-codec with --net.scales, given with --codec: all tokens of a scale at once."""
    return ScaleRecipe(
        recipe="var",
        net=NETS[size],
        objective=LikelihoodConfig(),
        optimizer=MuonConfig(),
        training=TrainingConfig(batch=64),
        sampling=ExtendConfig(guidance=1.3),
    )
