"""Recipe ``flow``: rectified flow on pixels (Liu et al. 2022; Lipman et al. 2022), the default everywhere."""

from __future__ import annotations

from dataclasses import replace

from limner.contracts import RefineConfig
from limner.objectives import DenoisingConfig, LogitNormal, MuonConfig
from limner.recipes.refine import RefineRecipe
from limner.recipes.sizes import UNETS, Size

#: A short training is best spent on the levels that decide a picture's layout (docs/report-card.md).
_LEVELS = LogitNormal(mean=0.5, std=0.8)
#: Classes are best pulled apart late, and the less the better a network is; a little fresh noise lets later steps put
#: right what earlier ones got wrong; the shift lets the last one begin at a level that the network knows
#: (docs/report-card.md).
_TINY = RefineConfig(steps=8, solver="dpmpp_2m", eta=0.3, guidance=1.4, guidance_from=0.2, guidance_to=0.75, shift=1.5)
_SMALL = replace(_TINY, guidance=1.25)
_LARGER = replace(_SMALL, steps=16)
SAMPLING: dict[Size, RefineConfig] = {"tiny": _TINY, "small": _SMALL, "base": _LARGER, "large": _LARGER}


def flow(size: Size = "small") -> RefineRecipe:
    """A velocity network on pixel-unshuffled pictures, logit-normal times (Esser et al. 2024), Muon."""
    return RefineRecipe(
        recipe="flow",
        net=UNETS[size],
        objective=DenoisingConfig(preconditioning="flow", levels=_LEVELS, weighting="velocity"),
        optimizer=MuonConfig(),
        sampling=SAMPLING[size],
    )
