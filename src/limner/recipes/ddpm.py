"""Recipe ``ddpm``: Ho et al. 2020, *Denoising diffusion probabilistic models*, algorithms 1 and 2."""

from __future__ import annotations

from limner.contracts import RefineConfig
from limner.objectives import DenoisingConfig, Discrete, MuonConfig
from limner.recipes.refine import RefineRecipe
from limner.recipes.sizes import UNETS, Size


def ddpm(size: Size = "small") -> RefineRecipe:
    """The noise at each of 1,000 levels as often, its plain squared error, on the networks of ``flow``.

    As published it is sampled with ``--solver ddpm --steps 1000``; by default a solver of this decade needs 24.
    """
    return RefineRecipe(
        recipe="ddpm",
        net=UNETS[size],
        objective=DenoisingConfig(preconditioning="vp", levels=Discrete(), weighting="simple"),
        optimizer=MuonConfig(),
        sampling=RefineConfig(steps=24, solver="dpmpp_2m", guidance=1.25, discretization="discrete", clip=True),
    )
