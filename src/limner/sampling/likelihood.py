"""Likelihood of pictures by a denoiser's probability-flow ODE (Song et al. 2021, section 4.3 and appendix D.2).

The path is walked on the circle alpha = cos a, sigma = sin a, whose flow is dz / da = v (Lu and Song 2024, *TrigFlow*),
and evenly in l = ln(sigma / alpha): dz / dl = cos a (cos a z - x0), which is smooth and dies away at both ends.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from limner import random
from limner.contracts import Bound, Condition, Level, Model
from limner.errors import UserError, within
from limner.sampling.draw import as_they_draw
from limner.sampling.refining import denoiser
from limner.sampling.solver import Denoise

Divergence = Callable[[Tensor, Tensor], Tensor]
"""(x0, z) to the trace of dx0 / dz, (N,), where x0 was computed from z with gradients."""

#: Bits a dimension by which an estimate may change when its steps are doubled; beyond, it is refused.
_TRUSTED = 0.05


def hutchinson(probe: Tensor) -> Divergence:
    """The trace as one product with a random sign vector, probe (N, ...): unbiased (Hutchinson 1989)."""

    def divergence(x0: Tensor, z: Tensor) -> Tensor:
        (product,) = torch.autograd.grad(x0, z, probe)
        return (product * probe).flatten(1).sum(1)

    return divergence


def exact_divergence(x0: Tensor, z: Tensor) -> Tensor:
    """The trace, one backward pass a dimension: for small pictures."""
    total = torch.zeros(len(z), dtype=z.dtype, device=z.device)
    flat = x0.flatten(1)
    for i in range(flat.shape[1]):
        (gradient,) = torch.autograd.grad(flat[:, i].sum(), z, retain_graph=True)
        total = total + gradient.flatten(1)[:, i]
    return total


@dataclass(frozen=True)
class Path:
    """How the ODE is walked.

    Attributes:
        steps: of the classical Runge-Kutta method, four evaluations and gradients each.
        sigma_min, sigma_max: the ends, sigma / alpha.
    """

    steps: int = 32
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        within("steps", self.steps, 2, 10_000)
        within("sigma_min", self.sigma_min, 1e-6, 1)
        within("sigma_max", self.sigma_max, 1, 1e6)


def density(denoise: Denoise, x: Tensor, cond: Condition, divergence: Divergence, path: Path) -> Tensor:
    """ln p(x) in nats, (N,), of pictures x (N, ...) that carry noise of ``path.sigma_min``.

    Exact but for the steps, the divergence's chance, and the prior, N(0, sigma_max²), which lacks the data's mean.
    """
    first, last = math.log(path.sigma_min), math.log(path.sigma_max)
    grid = torch.linspace(first, last, path.steps + 1, dtype=torch.float64).tolist()

    def flow(z: Tensor, position: float) -> tuple[Tensor, Tensor]:
        """dz / dl and its divergence."""
        angle = math.atan(math.exp(position))
        at = Level(*(torch.full((len(z),), value, dtype=z.dtype, device=z.device) for value in _circle(angle)))
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            x0 = denoise(z, at, cond).x0
            trace = divergence(x0, z)
        c = math.cos(angle)
        return c * (c * z.detach() - x0.detach()), c * (c * z[0].numel() - trace)

    z = x * math.cos(math.atan(path.sigma_min))
    change = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for a, b in itertools.pairwise(grid):
        h, middle = b - a, (a + b) / 2
        z1, d1 = flow(z, a)
        z2, d2 = flow(z + h / 2 * z1, middle)
        z3, d3 = flow(z + h / 2 * z2, middle)
        z4, d4 = flow(z + h * z3, b)
        z = z + h / 6 * (z1 + 2 * z2 + 2 * z3 + z4)
        change = change + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    spread = math.sin(math.atan(path.sigma_max))
    prior = -0.5 * (z / spread).flatten(1).square().sum(1) - x[0].numel() * math.log(spread * math.sqrt(2 * math.pi))
    return prior + change + x[0].numel() * math.log(math.cos(math.atan(path.sigma_min)))


def _circle(angle: float) -> tuple[float, float]:
    return math.cos(angle), math.sin(angle)


def log_likelihood(
    model: Model,
    images: npt.NDArray[np.uint8 | np.uint16],
    *,
    label: npt.NDArray[np.int64] | None = None,
    seed: int = 0,
    steps: int = 32,
    batch: int = 64,
    on_progress: Callable[[int], None] | None = None,
) -> Bound:
    """ln p of pictures, as an estimate: noise spreads each value over its bin (Theis et al. 2016), Hutchinson's
    estimator takes the divergence, and the denoiser is the model as it was trained, without guidance.

    Args:
        model: of a denoiser.
        images: (N, H, W, C), uint8, or uint16 for a model of 16 bits.
        label: (N,), or None: then the model is asked without one.
        seed: of the noise.
        steps: of the ODE; the whole is done a second time with half of them, as a check.
        batch: pictures together; only memory and speed depend on it.
        on_progress: called with the number of pictures done.

    Raises:
        UserError: the pictures are not of the model's kind, or the estimate cannot be trusted: it changes with the
            number of steps, or promises what no code can reach, less than 0 bits.
    """
    within("steps", steps, 4, 10_000)
    net = denoiser(model)
    _checked(model, images, label)
    device = next(net.parameters()).device
    means, half = [], (2**model.spec.bits - 1) / 2
    fine, coarse = Path(steps), Path(steps // 2)
    for first in range(0, len(images), batch):
        samples = torch.arange(first, min(first + batch, len(images)), device=device)
        part = torch.from_numpy(np.array(images[first : first + batch], np.float32)).to(device).permute(0, 3, 1, 2)
        where = random.uniform(seed, samples, "dequantize", shape=tuple(part.shape[1:])) - 0.5
        x = (part + where) / half - 1
        signs = torch.where(random.uniform(seed, samples, "hutchinson", shape=tuple(x.shape[1:])) < 0.5, -1.0, 1.0)
        chosen = None if label is None else torch.from_numpy(label[first : first + batch]).to(device)
        cond = Condition(chosen)
        with as_they_draw(net):
            walked = [density(net, x, cond, hutchinson(signs), path) for path in (fine, coarse)]
        means.append(torch.stack(walked))
        if on_progress:
            on_progress(first + len(samples))
    size = math.prod(model.spec.shape)
    found, check = torch.cat(means, dim=1) + size * math.log(1 / half)
    bound = Bound(found.cpu(), "estimate")
    _guarded(bound.bits_per_dimension(size), Bound(check.cpu(), "estimate").bits_per_dimension(size), steps)
    return bound


def _checked(model: Model, images: npt.NDArray[np.uint8 | np.uint16], label: npt.NDArray[np.int64] | None) -> None:
    channels, (height, width), kind = model.spec.channels, model.spec.size, f"uint{model.spec.bits}"
    if images.ndim != 4 or images.shape[1:] != (height, width, channels) or images.dtype != kind or not len(images):
        raise UserError(
            f"the pictures are {images.shape} {images.dtype}; this model knows "
            f"(N, {height}, {width}, {channels}) {kind}"
        )
    if label is not None and not model.labels:
        raise UserError("this model was trained without labels; leave them out")
    if label is None and model.labels and not model.unconditional:
        raise UserError("this model was always told the class, and these pictures have none; give pictures with labels")


def _guarded(bits: Tensor, check: Tensor, steps: int) -> None:
    """Few steps make nonsense of it, far below 0 bits a dimension or far above 8."""
    change = float((bits.mean() - check.mean()).abs())
    if not change <= _TRUSTED:
        raise UserError(
            f"{steps} steps are too few for a likelihood: with half of them it is {change:.2f} bits a dimension "
            f"apart; give --steps {2 * steps}"
        )
    if float(bits.mean()) < 0:
        raise UserError(
            f"the estimate is {float(bits.mean()):.2f} bits a dimension, which no model of pictures can reach: "
            "this network knows too little of low noise for a likelihood"
        )
