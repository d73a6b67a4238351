"""Muon: momentum whose direction is orthogonalised, for the matrices and convolutions inside a network.

After Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/), with the update's size matched to that of
AdamW (Liu et al. 2025, *Muon is scalable for LLM training*, section 2.2), so that one rate serves both kinds of
parameters. A convolution (out, in, kh, kw) is the matrix (out, in kh kw).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

#: Of the quintic iteration that takes singular values to about 1 (Jordan et al. 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalized(matrices: Tensor, steps: int = 5) -> Tensor:
    """Matrices (K, R, C) with their singular values moved towards 1 by Newton and Schulz's iteration: those above a
    hundredth of the norm come to between 0.7 and 1.2."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    # Every iterate is a polynomial of x xᵀ times x, and such polynomials commute: for wide matrices it is cheaper to
    # build the polynomial of the small square alone and to multiply by x once.
    x = _polynomial(x @ x.transpose(1, 2), steps) @ x if x.shape[2] >= 2 * x.shape[1] else _iterated(x, steps)
    return x.transpose(1, 2) if tall else x


def _iterated(x: Tensor, steps: int) -> Tensor:
    for _ in range(steps):
        square = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return x


def _polynomial(square: Tensor, steps: int) -> Tensor:
    """Q with Q x = ``_iterated(x)``, from x xᵀ (K, R, R)."""
    q: Tensor | None = None
    for step in range(steps):
        factor = torch.baddbmm(square, square, square, beta=_B, alpha=_C)
        factor.diagonal(dim1=1, dim2=2).add_(_A)
        q = factor if q is None else factor @ q
        if step + 1 < steps:
            square = factor @ square @ factor
    assert q is not None
    return q


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; decoupled weight decay.

    Args:
        params: tensors of two or more dimensions.
        lr: as for AdamW.
        momentum: of the running mean of gradients.
        weight_decay: decoupled.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float = 2e-3, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        weights = list(params)
        for weight in weights:
            if _matrix(weight, weight).data_ptr() != weight.data_ptr():
                raise ValueError(f"Muon needs weights whose memory is in order, not {weight.stride()}")
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            self._step_group(group)

    def _step_group(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        for p in params:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        grads = [p.grad for p in params]
        momenta = [self.state[p]["momentum"] for p in params]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, momenta, group["momentum"])
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        # Matrices of one shape go through the iteration together: many small products cost more than few large ones.
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, p in enumerate(params):
            alike[(p.shape[0], p[0].numel())].append(i)
        for (rows, columns), which in alike.items():
            stacked = torch.stack([_matrix(ahead[i], params[i]) for i in which])
            rate = group["lr"] * 0.2 * max(rows, columns) ** 0.5
            torch._foreach_add_(
                [_matrix(params[i], params[i]) for i in which], list(orthogonalized(stacked).unbind()), alpha=-rate
            )


def _matrix(values: Tensor, weight: Tensor) -> Tensor:
    """Values shaped like a weight as (out, rest), a view if they lie in memory as the weight does. The order of the
    columns changes nothing but the order of the result's, so it is that of the weight's memory: a channels_last
    convolution is not copied."""
    if weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        return values.permute(0, 2, 3, 1).flatten(1)
    return values.flatten(1)
