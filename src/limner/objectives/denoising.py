"""Denoising: the objective of diffusion and flow models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from limner.contracts import Condition, Level, Prediction
from limner.errors import UserError, within
from limner.models import Preconditioned, Row
from limner.objectives.noise_levels import Discrete, LogitNormal, NoiseLevels
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers

Weighting = Literal["velocity", "edm", "simple", "min-snr", "v"]


@dataclass(frozen=True)
class DenoisingConfig:
    """What the denoiser is taught.

    Attributes:
        preconditioning: a row of :data:`limner.models.PRECONDITIONINGS`.
        levels: the noise-level distribution.
        weighting: of the error of x0: "edm" weighs the error of F evenly (for EDM's preconditioning), "velocity" that
            of noise - x0, "simple" that of the noise, "min-snr" the same with the weight at most 5, "v" that of v.
        label_dropout: share of samples whose label is hidden, which classifier-free guidance needs.
        variance: "learned" teaches the variance of the reverse steps too; levels must be discrete.

    Raises:
        UserError: settings that exclude each other.
    """

    preconditioning: Row = "flow"
    levels: NoiseLevels = LogitNormal()  # noqa: RUF009 - frozen
    weighting: Weighting = "velocity"
    label_dropout: float = 0.05
    variance: Literal["fixed", "learned"] = "fixed"

    def __post_init__(self) -> None:
        within("objective.label-dropout", self.label_dropout, 0, 1)
        schedule = self.levels.schedule if isinstance(self.levels, Discrete) else None
        if self.variance == "learned" and schedule is None:
            raise UserError("a learned variance is that of steps between levels; give --objective.levels.kind discrete")
        if schedule is not None and schedule.zero_terminal_snr:
            if self.preconditioning == "vp":
                raise UserError(
                    "at zero SNR the noise tells nothing of the picture; give --objective.preconditioning v and "
                    "--objective.weighting v"
                )
            if self.weighting in ("simple", "min-snr"):  # the weight is 0 where sampling begins (Lin et al. 2023)
                raise UserError(
                    f"the weighting '{self.weighting}' teaches nothing at zero SNR; give --objective.weighting v"
                )


def edm_weight(at: Level, sigma_data: float) -> Tensor:
    """(sigma² + sigma_data²) / (sigma sigma_data)² (Karras et al. 2022, table 1), with sigma / alpha for sigma.

    Written as 1 / sigma_data² + (alpha / sigma)², which is finite at alpha = 0.
    """
    return sigma_data**-2 + _snr(at)


def velocity_weight(at: Level, sigma_data: float) -> Tensor:
    """|x0 error|² / t² is the squared error of the velocity; t is kept above 0.02 so that no single sample rules."""
    return (at.sigma / (at.alpha + at.sigma)).clamp_min(0.02).square().reciprocal()


def simple_weight(at: Level, sigma_data: float) -> Tensor:
    """|x0 error|² times the ratio of signal to noise is the squared error of the noise (Ho et al. 2020, eq. 14)."""
    return _snr(at)


def min_snr_weight(at: Level, sigma_data: float) -> Tensor:
    """min(SNR, 5) (Hang et al. 2023, section 3.4)."""
    return _snr(at).clamp_max(5.0)


def v_weight(at: Level, sigma_data: float) -> Tensor:
    """SNR + 1, the squared error of v (Salimans and Ho 2022, section 4)."""
    return _snr(at) + 1


def _snr(at: Level) -> Tensor:
    return (at.alpha / at.sigma).square()


WEIGHTINGS: dict[Weighting, Callable[[Level, float], Tensor]] = {
    "edm": edm_weight,
    "velocity": velocity_weight,
    "simple": simple_weight,
    "min-snr": min_snr_weight,
    "v": v_weight,
}


@dataclass(frozen=True)
class Noised:
    """A batch on the way to its loss: its levels, itself with noise (N, C, H, W), and what the network is told."""

    at: Level
    x: Tensor
    cond: Condition


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
        noised = self.noised(batch, context)
        return self.weighted(self.denoiser(noised.x, noised.at, noised.cond), noised, batch)

    def noised(self, batch: Batch, context: Context) -> Noised:
        at = self.config.levels(context.spread("level"))
        alpha, sigma = at.like(batch.images)
        noise = context.noise("noise", tuple(batch.images.shape[1:]))
        cond = batch.cond.dropped(context.uniform("drop") < self.config.label_dropout)
        return Noised(at, (alpha * batch.images).addcmul(sigma, noise), cond)

    def weighted(self, prediction: Prediction, noised: Noised, batch: Batch) -> Losses:
        error = (prediction.x0 - batch.images).square().mean(dim=(1, 2, 3))
        weight = self.weight(noised.at, self.denoiser.sigma_data)
        return {"loss": (weight * error).mean(), "x0_error": error.detach().mean()}
