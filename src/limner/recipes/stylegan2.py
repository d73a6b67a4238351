"""Recipe ``stylegan2``: Karras et al. 2020, *Analyzing and improving the image quality of StyleGAN*."""

from __future__ import annotations

from limner.models import StyleGAN2Config
from limner.objectives import AdamWConfig, AdversarialConfig, ZeroCentredPenalty
from limner.recipes.decode import AdversarialRecipe
from limner.recipes.sizes import Size
from limner.training.config import TrainingConfig

NETS: dict[Size, StyleGAN2Config] = {
    "tiny": StyleGAN2Config(width=16, code=64),
    "small": StyleGAN2Config(width=32, code=128),
    "base": StyleGAN2Config(width=64, code=256),
    "large": StyleGAN2Config(width=128, code=512, unshuffle=1, noise=True),
}
#: Iterations between two looks at the slopes (section 3.1, where they are 16): few iterations want a critic that is
#: smooth from the first on (docs/report-card.md).
LAZY = 4


def stylegan2(size: Size = "small") -> AdversarialRecipe:
    """Styles: mapped codes that scale every convolution; lazy R1, the spread of a batch; as for small pictures."""
    # Without mixing and path lengths, as Karras et al. 2020 (*Training generative adversarial networks with limited
    # data*, table 1) have it for pictures of 32x32.
    shorter = LAZY / (LAZY + 1)  # as many of the critic's steps are added
    return AdversarialRecipe(
        recipe="stylegan2",
        net=NETS[size],
        objective=AdversarialConfig(game="non-saturating", penalty=ZeroCentredPenalty(gamma=5.0, every=LAZY)),
        # Weights are of size 1 and scaled where they are used, so that a rate is what they change by: minutes want more
        # than the published 2.5e-3.
        optimizer=AdamWConfig(lr=6e-3, betas=(0.0, 0.99)),
        critic_optimizer=AdamWConfig(lr=6e-3 * shorter, betas=(0.0, 0.99**shorter)),
        training=TrainingConfig(batch=32, clip=0.0, precision="float32"),
    )
