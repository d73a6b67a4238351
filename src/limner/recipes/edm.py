"""Recipe ``edm``: Karras et al. 2022, *Elucidating the design space of diffusion-based generative models*, table 1."""

from __future__ import annotations

from limner.contracts import RefineConfig
from limner.objectives import DenoisingConfig, LogNormal, MuonConfig
from limner.recipes.refine import RefineRecipe
from limner.recipes.sizes import UNETS, Size


def edm(size: Size = "small") -> RefineRecipe:
    """EDM's preconditioning, log-normal noise levels, its weighting and its solver, on the networks of ``flow``."""
    return RefineRecipe(
        recipe="edm",
        net=UNETS[size],
        objective=DenoisingConfig(preconditioning="edm", levels=LogNormal(mean=-1.2, std=1.2), weighting="edm"),
        optimizer=MuonConfig(),
        sampling=RefineConfig(steps=12, solver="heun", guidance=1.5, guidance_to=0.9, discretization="edm"),
    )
