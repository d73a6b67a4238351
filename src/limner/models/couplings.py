"""Affine couplings (Dinh et al. 2017, *Density estimation using Real NVP*, section 3): a map between codes that can be
taken back, whose determinant is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.models.layers import zeroed

#: Each number is scaled by at most e to this, or its inverse, in one coupling.
_REACH = 2.0
#: Features inside for each number of a code, and at most.
_WIDER, _WIDEST = 8, 512


class _Coupling(nn.Module):
    """Scale and shift of one part of a code, as the other part and the label say; nothing at first."""

    def __init__(self, heard: int, moved: int, inside: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(heard, inside),
            nn.SiLU(),
            nn.Linear(inside, inside),
            nn.SiLU(),
            zeroed(nn.Linear(inside, 2 * moved)),
        )

    def forward(self, heard: Tensor) -> tuple[Tensor, Tensor]:
        """ln scale and shift."""
        log_scale, shift = self.net(heard).chunk(2, dim=1)
        return _REACH * torch.tanh(log_scale / _REACH), shift


class Couplings(nn.Module):
    """Codes z (N, code) to codes w (N, code), and back.

    Args:
        code: numbers in a code, 2 or more.
        label: features of the label (N, label), 0 without.
        depth: couplings, which move one half of the numbers each, in turns.
    """

    def __init__(self, code: int, label: int, depth: int) -> None:
        super().__init__()
        inside = min(_WIDER * code, _WIDEST)
        self.halves = [code // 2, code - code // 2]
        self.steps = nn.ModuleList(
            _Coupling(self.halves[i % 2] + label, self.halves[(i + 1) % 2], inside) for i in range(depth)
        )

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        parts = [*torch.split(z, self.halves, dim=1)]
        for i, step in enumerate(self.steps):
            log_scale, shift = step(torch.cat([parts[i % 2], label], dim=1))
            parts[(i + 1) % 2] = parts[(i + 1) % 2] * log_scale.exp() + shift
        return torch.cat(parts, dim=1)

    def inverse(self, w: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """z, and ln |det dz / dw| (N,)."""
        parts = [*torch.split(w, self.halves, dim=1)]
        total = torch.zeros_like(w[:, 0])
        for i, step in reversed([*enumerate(self.steps)]):
            log_scale, shift = step(torch.cat([parts[i % 2], label], dim=1))
            parts[(i + 1) % 2] = (parts[(i + 1) % 2] - shift) * (-log_scale).exp()
            total = total - log_scale.sum(1)
        return torch.cat(parts, dim=1), total
