"""Recipe ``dalle``: text tokens in front of a codec's, by one causal transformer (Ramesh et al. 2021, *Zero-shot
text-to-image generation*)."""

from __future__ import annotations

from limner.contracts import ExtendConfig
from limner.models import DalleConfig
from limner.objectives import CaptionedLikelihoodConfig, MuonConfig
from limner.recipes.extend import CaptionedRecipe
from limner.recipes.sizes import Size
from limner.text import TextConfig
from limner.training.config import TrainingConfig

NETS: dict[Size, DalleConfig] = {
    "tiny": DalleConfig(width=96, depth=4, heads=3),
    "small": DalleConfig(width=144, depth=5, heads=3),
    "base": DalleConfig(width=384, depth=12, heads=6, dropout=0.1, text=TextConfig(vocabulary=8192)),
    "large": DalleConfig(width=768, depth=24, heads=12, dropout=0.1, text=TextConfig(vocabulary=16_384, length=128)),
}


def dalle(size: Size = "small") -> CaptionedRecipe:
    """What captions say, token by token of a vq-codec, given with --codec: limner sample RUN --prompt "a red ring"."""
    return CaptionedRecipe(
        recipe="dalle",
        net=NETS[size],
        objective=CaptionedLikelihoodConfig(),
        optimizer=MuonConfig(),
        training=TrainingConfig(batch=64),
        sampling=ExtendConfig(guidance=2.0),
    )
