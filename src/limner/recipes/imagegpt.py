"""Recipe ``imagegpt``: Chen et al. 2020, *Generative pretraining from pixels*, on the values themselves."""

from __future__ import annotations

from limner.contracts import ExtendConfig
from limner.models import GPTConfig
from limner.objectives import LikelihoodConfig, MuonConfig
from limner.recipes.extend import ExtendRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

NETS: dict[Size, GPTConfig] = {
    "tiny": GPTConfig(width=48, depth=3, heads=3),
    "small": GPTConfig(width=96, depth=4, heads=3),
    "base": GPTConfig(width=384, depth=12, heads=6, dropout=0.1),
    "large": GPTConfig(width=768, depth=24, heads=12, dropout=0.1),
}


def imagegpt(size: Size = "small") -> ExtendRecipe:
    """Value by value, each one of 256, that a causal transformer says of all before it."""
    return ExtendRecipe(
        recipe="imagegpt",
        net=NETS[size],
        objective=LikelihoodConfig(),
        optimizer=MuonConfig(),
        training=TrainingConfig(batch=16),
        sampling=ExtendConfig(guidance=1.5),
    )
