"""Recipe ``vqgpt``: the tokens of a codec by a causal transformer (van den Oord et al. 2017; Esser et al. 2021, *Taming
transformers for high-resolution image synthesis*)."""

from __future__ import annotations

from limner.models import GPTConfig
from limner.objectives import LikelihoodConfig, MuonConfig
from limner.recipes.extend import TokenRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

NETS: dict[Size, GPTConfig] = {
    "tiny": GPTConfig(width=96, depth=4, heads=3),
    "small": GPTConfig(width=144, depth=5, heads=3),
    "base": GPTConfig(width=384, depth=12, heads=6, dropout=0.1),
    "large": GPTConfig(width=768, depth=24, heads=12, dropout=0.1),
}


def vqgpt(size: Size = "small") -> TokenRecipe:
    """Token by token of a vq-codec, given with --codec, each one of some hundred codes."""
    return TokenRecipe(
        recipe="vqgpt",
        net=NETS[size],
        objective=LikelihoodConfig(),
        optimizer=MuonConfig(),
        training=TrainingConfig(batch=64),
    )
