"""Recipe ``dit``: a transformer that says the clean picture from patches of pixels, as in JiT (Li and He 2025)."""

from __future__ import annotations

from limner.contracts import RefineConfig
from limner.objectives import DenoisingConfig, LogitNormal, MuonConfig
from limner.recipes.refine import RefineRecipe
from limner.recipes.sizes import DITS, Size


def dit(size: Size = "small") -> RefineRecipe:
    """x0 from patches, weighed as the velocity, on the levels and with the optimiser of ``flow``."""
    return RefineRecipe(
        recipe="dit",
        net=DITS[size],
        objective=DenoisingConfig(preconditioning="data", levels=LogitNormal(mean=0.5, std=0.8), weighting="velocity"),
        optimizer=MuonConfig(),
        sampling=RefineConfig(steps=12, guidance=1.25, guidance_from=0.2, guidance_to=0.75, churn=5.0, shift=1.5),
    )
