"""The density of pictures by a denoiser's probability-flow ODE (Song et al. 2021, section 4.3 and appendix D.2).

The path is walked on the circle alpha = cos a, sigma = sin a, whose flow is dz / da = v (Lu and Song 2024, *TrigFlow*),
and evenly in l = ln(sigma / alpha): dz / dl = cos a (cos a z - x0), which is smooth and dies away at both ends.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.contracts import Condition, Level
from limner.errors import within
from limner.sampling.solver import Denoise

Divergence = Callable[[Tensor, Tensor], Tensor]
"""(x0, z) to the trace of dx0 / dz, (N,), where x0 was computed from z with gradients."""


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
