"""Recipe ``drift``: Deng et al. 2026, *Generative modeling via drifting*."""

from __future__ import annotations

from limner.models import R3GANConfig
from limner.objectives import DriftingConfig, MuonConfig
from limner.recipes.decode import DriftRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

NETS: dict[Size, R3GANConfig] = {
    "tiny": R3GANConfig(width=32),
    "small": R3GANConfig(width=48),
    "base": R3GANConfig(width=96, blocks=2),
    "large": R3GANConfig(width=128, blocks=3),
}


def drift(size: Size = "small") -> DriftRecipe:
    """One pass and no critic: pictures drift to real ones and apart from each other, until both are alike."""
    return DriftRecipe(
        recipe="drift",
        net=NETS[size],
        objective=DriftingConfig(),
        optimizer=MuonConfig(lr=2e-3),
        training=TrainingConfig(batch=256, precision="float32"),
    )
