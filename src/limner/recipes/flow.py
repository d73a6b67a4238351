"""Recipe ``flow``: rectified flow on pixels (Liu et al. 2022; Lipman et al. 2022), the default everywhere."""

from __future__ import annotations

from limner.contracts import SampleConfig
from limner.objectives import DenoisingConfig, LogitNormal, MuonConfig
from limner.recipes.refine import RefineRecipe
from limner.recipes.sizes import UNETS, Size


def flow(size: Size = "small") -> RefineRecipe:
    """A velocity network on 2x2 pixel-unshuffled pictures, logit-normal times (Esser et al. 2024), Muon, cosine."""
    return RefineRecipe(
        recipe="flow",
        net=UNETS[size],
        objective=DenoisingConfig(preconditioning="flow", levels=LogitNormal(mean=0.0, std=1.0), weighting="velocity"),
        optimizer=MuonConfig(),
        sampling=SampleConfig(steps=8, solver="heun", guidance=1.5, guidance_to=0.8),
    )
