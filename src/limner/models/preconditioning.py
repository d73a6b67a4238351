"""What stands between a raw network F and the denoiser D(x; level).

D = mean + c_skip y + c_out F(c_in y, c_noise) with y = x - alpha mean, the form of Karras et al. 2022 (EDM, equation
7) around the mean of the data, with the four coefficients as functions of a level (alpha, sigma) instead of sigma
alone. All rows are homogeneous: x scaled by c at the level (c alpha, c sigma) gives the same picture, and all are
finite at alpha = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.contracts import Condition, Denoiser, Level, Prediction


@dataclass(frozen=True)
class Coefficients:
    """All (N,). ``noise`` is what the network is told of the level."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor


Preconditioning = Callable[[Level, float], Coefficients]


def _input_scale(at: Level, sigma_data: float) -> Tensor:
    return torch.rsqrt((at.alpha * sigma_data).square() + at.sigma.square())


def edm(at: Level, sigma_data: float) -> Coefficients:
    """EDM, table 1: F has a target of unit variance at every level. c_noise = ln(sigma / alpha) / 4."""
    into = _input_scale(at, sigma_data)
    ratio = (at.sigma / at.alpha.clamp_min(1e-8)).clamp(1e-4, 1e4)
    return Coefficients(
        skip=at.alpha * sigma_data**2 * into.square(),
        out=at.sigma * sigma_data * into,
        into=into,
        noise=ratio.log() / 4,
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


PRECONDITIONINGS: dict[str, Preconditioning] = {"edm": edm, "flow": flow, "data": data}


class Preconditioned(Denoiser):
    """A denoiser made of a raw network and a preconditioning.

    Args:
        net: called as ``net(x, c_noise, label)`` with x (N, C, H, W), c_noise (N,), label (N,) int64 or None.
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
        self.sigma_data = sigma_data
        # What the network would else have to learn first: few pictures are grey on average.
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
        c = self.preconditioning(at, self.sigma_data)
        skip, out, into = (value.reshape(-1, 1, 1, 1) for value in (c.skip, c.out, c.into))
        centred = x - at.alpha.reshape(-1, 1, 1, 1) * self.mean
        f: Tensor = self.net(centred * into, c.noise, cond.label)
        # Under autocast F may come in half precision; the sum must not.
        return Prediction(self.mean + skip * centred + out * f.to(x.dtype))
