"""Recipe ``palette``: the colours of Chen et al. 2020, *Generative pretraining from pixels*."""

from __future__ import annotations

from limner.models import PaletteConfig
from limner.objectives import AdamWConfig
from limner.recipes.codec import PaletteRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

COLOURS: dict[Size, int] = {"tiny": 64, "small": 256, "base": 512, "large": 1024}


def palette(size: Size = "small") -> PaletteRecipe:
    """A codec for models that write pixels: each is one of some colours, those that k-means finds."""
    return PaletteRecipe(
        recipe="palette",
        net=PaletteConfig(colours=COLOURS[size]),
        optimizer=AdamWConfig(lr=0.02),
        training=TrainingConfig(batch=32, clip=0.0, precision="float32"),
    )
