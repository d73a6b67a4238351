"""Recipe ``flow``: rectified flow on pixels (Liu et al. 2022; Lipman et al. 2022), the default everywhere."""

from __future__ import annotations

from limner.contracts import SampleConfig
from limner.objectives import DenoisingConfig, LogitNormal, MuonConfig
from limner.recipes.refine import RefineRecipe
from limner.recipes.sizes import UNETS, Size


def flow(size: Size = "small") -> RefineRecipe:
    """A velocity network on 2x2 pixel-unshuffled pictures, logit-normal times (Esser et al. 2024), Muon, cosine."""
    # The less a network has learned, the more it needs to be pulled towards its class (docs/report-card.md).
    guidance = 1.6 if size == "tiny" else 1.3
    return RefineRecipe(
        recipe="flow",
        net=UNETS[size],
        objective=DenoisingConfig(preconditioning="flow", levels=LogitNormal(mean=0.0, std=1.0), weighting="velocity"),
        optimizer=MuonConfig(),
        sampling=SampleConfig(steps=8, solver="heun", guidance=guidance, guidance_to=0.9),
    )
