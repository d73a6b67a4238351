"""The variance of the reverse steps, learned by the variational bound (improved DDPM)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limner.contracts import Level, Prediction
from limner.models import Preconditioned
from limner.noise_schedules import STEPS, posterior
from limner.objectives.denoising import Denoising, DenoisingConfig, Noised
from limner.objectives.noise_levels import Discrete
from limner.objectives.objective import Batch, Context, Losses
from limner.objectives.optimizers import OptimizerConfig

#: Share of the bound in the loss (Nichol and Dhariwal 2021, section 3.1, lambda).
_SHARE = 1e-3


class HybridDenoising(Denoising):
    """L_hybrid = L_simple + 0.001 L_vlb (Nichol and Dhariwal 2021, section 3.1), L_vlb in bits a dimension, which
    teaches the variance alone: its mean is held fixed.

    Logged beside what :class:`Denoising` logs: "bound", an estimate of L_vlb from the batch.
    """

    def __init__(
        self, denoiser: Preconditioned, config: DenoisingConfig, levels: Discrete, optimizer: OptimizerConfig
    ) -> None:
        super().__init__(denoiser, config, optimizer)
        self.levels = levels

    def loss(self, batch: Batch, context: Context) -> Losses:
        noised = self.noised(batch, context)
        prediction = self.denoiser(noised.x, noised.at, noised.cond)
        losses = self.weighted(prediction, noised, batch)
        to = self.levels.before(context.spread("level"))
        terms = STEPS * bound_terms(prediction, noised, to, batch.images, self._floor(to))
        bound = terms.mean()
        return losses | {"loss": losses["loss"] + _SHARE * bound, "bound": bound.detach()}

    def _floor(self, to: Level) -> Tensor:
        """beta tilde of the second step: that of the first is 0, whose logarithm no variance could reach."""
        levels = self.levels.schedule.levels()
        return posterior(levels.index(slice(1, 2)), levels.index(slice(0, 1))).small.to(to.alpha)


def bound_terms(prediction: Prediction, noised: Noised, to: Level, images: Tensor, floor: Tensor) -> Tensor:
    """The bound's term of each sample's step from its level to ``to``, (N,) in bits a dimension: the divergence of the
    model's step from the posterior, and for the step to the picture the cost of its pixels, 8 bits each.

    Gradients reach ``prediction.variance`` alone.

    Args:
        prediction: at ``noised``.
        noised: the batch.
        to: the next level of each sample.
        images: (N, C, H, W).
        floor: the least variance of a step, one number.

    Raises:
        ValueError: the denoiser learns no variance.
    """
    if prediction.variance is None:
        raise ValueError("this denoiser learns no variance")
    known = posterior(noised.at, to)
    shape = (-1, *[1] * (images.ndim - 1))
    small, large = (value.clamp_min(floor).reshape(shape) for value in (known.small, known.large))
    log_var = small.log().lerp(large.log(), prediction.variance)
    off = known.x0.reshape(shape) * (prediction.x0.detach() - images)  # of the means
    divergence = 0.5 * (log_var - small.log() + (small + off.square()) / log_var.exp() - 1)
    last = (to.sigma == 0).reshape(shape)
    nats = torch.where(last, -log_share(images, off, log_var), divergence)
    return nats.mean(dim=tuple(range(1, images.ndim))) / math.log(2)


def log_share(images: Tensor, off: Tensor, log_var: Tensor) -> Tensor:
    """ln of the share of N(images + off, exp(log_var)) that lies in the bin of each 8-bit value of ``images``, the
    outermost of which reach to infinity (Ho et al. 2020, equation 13)."""
    narrow = (-0.5 * log_var).exp()
    upper = torch.where(images > 0.999, torch.inf, (1 / 255 - off) * narrow)
    lower = torch.where(images < -0.999, -torch.inf, (-1 / 255 - off) * narrow)
    share: Tensor = torch.special.ndtr(upper) - torch.special.ndtr(lower)
    return share.clamp_min(1e-12).log()
