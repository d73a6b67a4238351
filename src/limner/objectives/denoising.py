"""Denoising: the objective of diffusion and flow models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from limner.contracts import Level
from limner.models.preconditioning import Preconditioned
from limner.objectives.noise_levels import LogitNormal, NoiseLevels
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers


@dataclass(frozen=True)
class DenoisingConfig:
    """What the denoiser is taught.

    Attributes:
        preconditioning: a row of :data:`limner.models.PRECONDITIONINGS`.
        levels: the noise-level distribution.
        weighting: "edm" weighs the error of F evenly (for EDM's preconditioning), "velocity" that of noise - x0.
        label_dropout: share of samples whose label is hidden, which classifier-free guidance needs.
    """

    preconditioning: Literal["flow", "edm", "data"] = "flow"
    levels: NoiseLevels = LogitNormal()  # noqa: RUF009 - frozen
    weighting: Literal["velocity", "edm"] = "velocity"
    label_dropout: float = 0.05


def edm_weight(at: Level, sigma_data: float) -> Tensor:
    """(sigma² + sigma_data²) / (sigma sigma_data)² (Karras et al. 2022, table 1), with sigma / alpha for sigma.

    Written as 1 / sigma_data² + (alpha / sigma)², which is finite at alpha = 0.
    """
    return sigma_data**-2 + (at.alpha / at.sigma).square()


def velocity_weight(at: Level, sigma_data: float) -> Tensor:
    """|x0 error|² / t² is the squared error of the velocity; t is kept above 0.02 so that no single sample rules."""
    return (at.sigma / (at.alpha + at.sigma)).clamp_min(0.02).square().reciprocal()


WEIGHTINGS: dict[str, Callable[[Level, float], Tensor]] = {"edm": edm_weight, "velocity": velocity_weight}


class Denoising(Objective):
    """Weighted squared error of the predicted clean picture.

    Logged: "loss", and "x0_error", the unweighted mean squared error.
    """

    ema = ("denoiser",)

    def __init__(self, denoiser: Preconditioned, config: DenoisingConfig, optimizer: OptimizerConfig) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.config = config
        self.weight = WEIGHTINGS[config.weighting]
        self.optimizer = optimizer

    def optimizers(self) -> Optimizers:
        return self.optimizer.build("denoiser", self.denoiser)

    def updates(self) -> list[Update]:
        return [Update("denoise", optimizers=tuple(self.optimizers()), params=("denoiser",), loss=self.loss)]

    def loss(self, batch: Batch, context: Context) -> Losses:
        at = self.config.levels(context.spread("level"))
        alpha, sigma = at.like(batch.images)
        noise = context.noise("noise", tuple(batch.images.shape[1:]))
        cond = batch.cond.dropped(context.uniform("drop") < self.config.label_dropout)
        noisy = torch.addcmul(alpha * batch.images, sigma, noise)
        prediction = self.denoiser(noisy, at, cond)
        error = (prediction.x0 - batch.images).square().mean(dim=(1, 2, 3))
        weighted = (self.weight(at, self.denoiser.sigma_data) * error).mean()
        return {"loss": weighted, "x0_error": error.detach().mean()}
