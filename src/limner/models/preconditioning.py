"""What stands between a raw network F and the denoiser D(x; level).

D = mean + c_skip y + c_out F(c_in y, c_noise) with y = x - alpha mean, the form of Karras et al. 2022 (EDM, equation
7) around the mean of the data, with the four coefficients as functions of a level (alpha, sigma) instead of sigma
alone. All rows are homogeneous: x scaled by c at the level (c alpha, c sigma) gives the same picture, and all but "vp"
are finite at alpha = 0, where the noise, which a "vp" network says, tells nothing of the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from limner.contracts import Condition, Denoiser, FlowMap, Level, Prediction


@dataclass(frozen=True)
class Coefficients:
    """All (N,). ``noise`` is what the network is told of the level."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Preconditioning:
    """A row of the table.

    Attributes:
        coefficients: (level, sigma_data) to the four.
        whitened: whether the row is told the data's mean and spread; as published, VP knows neither and takes 0 and 1.
    """

    coefficients: Callable[[Level, float], Coefficients]
    whitened: bool = True


def _input_scale(at: Level, sigma_data: float) -> Tensor:
    return torch.rsqrt((at.alpha * sigma_data).square() + at.sigma.square())


def _log_ratio(at: Level) -> Tensor:
    """EDM's c_noise, ln(sigma / alpha) / 4, within bounds."""
    return (at.sigma / at.alpha.clamp_min(1e-8)).clamp(1e-4, 1e4).log() / 4


def edm(at: Level, sigma_data: float) -> Coefficients:
    """EDM, table 1: F has a target of unit variance at every level. c_noise = ln(sigma / alpha) / 4."""
    into = _input_scale(at, sigma_data)
    return Coefficients(
        skip=at.alpha * sigma_data**2 * into.square(),
        out=at.sigma * sigma_data * into,
        into=into,
        noise=_log_ratio(at),
    )


def flow(at: Level, sigma_data: float) -> Coefficients:
    """Rectified flow (Liu et al. 2022; Lipman et al. 2022): F is the velocity noise - x0 on the line of unit sum."""
    total = at.alpha + at.sigma
    time = at.sigma / total
    return Coefficients(skip=1 / total, out=-time, into=_input_scale(at, sigma_data), noise=2 * time - 1)


def data(at: Level, sigma_data: float) -> Coefficients:
    """F is the clean picture itself, as in JiT (Li and He 2025)."""
    total = at.alpha + at.sigma
    ones = torch.ones_like(total)
    return Coefficients(skip=0 * ones, out=ones, into=_input_scale(at, sigma_data), noise=2 * at.sigma / total - 1)


def vp(at: Level, sigma_data: float) -> Coefficients:
    """F is the noise, as in DDPM (Ho et al. 2020); EDM's table 1, "VP", told the level by EDM's c_noise.

    Below a ratio of picture to noise of 1e-4, alpha counts as that share of sigma.
    """
    alpha = torch.maximum(at.alpha, 1e-4 * at.sigma)
    return Coefficients(skip=1 / alpha, out=-at.sigma / alpha, into=_input_scale(at, sigma_data), noise=_log_ratio(at))


def v(at: Level, sigma_data: float) -> Coefficients:
    """F is v = alpha noise - sigma x0 on the circle alpha² + sigma² = 1 (Salimans and Ho 2022, appendix D)."""
    c = edm(at, sigma_data)
    return Coefficients(skip=c.skip, out=-c.out, into=c.into, noise=c.noise)


Row = Literal["edm", "flow", "data", "vp", "v"]
PRECONDITIONINGS: dict[Row, Preconditioning] = {
    "edm": Preconditioning(edm),
    "flow": Preconditioning(flow),
    "data": Preconditioning(data),
    "vp": Preconditioning(vp, whitened=False),
    "v": Preconditioning(v, whitened=False),
}


class Preconditioned(Denoiser):
    """A denoiser made of a raw network and a preconditioning.

    Args:
        net: called as ``net(x, c_noise, label)`` with x (N, C, H, W), c_noise (N,), label (N,) int64 or None. It gives
            C channels, or 2 C if the reverse step's variance is learned too, the second half of which says where it
            lies between its bounds, -1 to 1.
        preconditioning: a row of :data:`PRECONDITIONINGS`.
        sigma_data: standard deviation of the training pictures around ``mean``, in [-1, 1] units.
        mean: of the training pictures, a number a channel, or one for all.
    """

    mean: Tensor

    def __init__(
        self, net: nn.Module, preconditioning: Preconditioning, sigma_data: float, mean: tuple[float, ...] = (0.0,)
    ) -> None:
        super().__init__()
        self.net = net
        self.preconditioning = preconditioning
        self.sigma_data = sigma_data if preconditioning.whitened else 1.0
        # What the network would else have to learn first: few pictures are grey on average.
        around = mean if preconditioning.whitened else (0.0,)
        self.register_buffer("mean", torch.tensor(around).reshape(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
        return self._predicted(x, at, cond, None)

    def _predicted(self, x: Tensor, at: Level, cond: Condition, to: Level | None) -> Prediction:
        c = self.preconditioning.coefficients(at, self.sigma_data)
        skip, out, into = (value.reshape(-1, 1, 1, 1) for value in (c.skip, c.out, c.into))
        centred = x - at.alpha.reshape(-1, 1, 1, 1) * self.mean
        end = () if to is None else (self.preconditioning.coefficients(to, self.sigma_data).noise,)
        # Under autocast F may come in half precision; the sum must not.
        f: Tensor = self.net(centred * into, c.noise, cond.label, *end).to(x.dtype)
        channels = x.shape[1]
        variance = (f[:, channels:] + 1) / 2 if f.shape[1] > channels else None
        return Prediction(self.mean + skip * centred + out * f[:, :channels], variance)


class PreconditionedFlowMap(Preconditioned, FlowMap):
    """A flow map made of a raw network that is told where a jump leads, and a preconditioning.

    A jump is the step that Euler's method would take with ``average(…)`` for x0: with the flow's row the network says
    the mean velocity of the way, as in MeanFlow (Geng et al. 2025).
    """

    def average(self, x: Tensor, at: Level, to: Level, cond: Condition) -> Prediction:
        """The x0 that one step from ``at`` to ``to`` has to go by to land on the path."""
        return self._predicted(x, at, cond, to)

    def jump(self, x: Tensor, at: Level, to: Level, cond: Condition) -> Tensor:
        return self.average(x, at, to, cond).moved(x, at, to)
