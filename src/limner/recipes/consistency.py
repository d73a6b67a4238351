"""Recipe ``consistency``: pictures in two jumps, from a teacher's paths or from the pictures alone."""

from __future__ import annotations

from limner.contracts import RefineConfig
from limner.objectives import FlowMapConfig, MuonConfig
from limner.recipes.few_steps import FlowMapRecipe
from limner.recipes.sizes import UNETS, Size


def consistency(size: Size = "small") -> FlowMapRecipe:
    """Jumps from any level of noise to the picture at the end of its path; ``--teacher RUN`` distils a denoiser."""
    return FlowMapRecipe(
        recipe="consistency",
        net=UNETS[size],
        objective=FlowMapConfig(),
        optimizer=MuonConfig(),
        # With fresh noise the second jump puts right what the first got wrong (docs/report-card.md).
        sampling=RefineConfig(steps=2, solver="jump", eta=1.0, shift=2.2),
    )
