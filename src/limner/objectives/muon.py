"""Muon: momentum whose direction is orthogonalised, for the matrices and convolutions inside a network.

After Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/), with the update's size matched to that of
AdamW (Liu et al. 2025, *Muon is scalable for LLM training*, section 2.2), so that one rate serves both kinds of
parameters. A convolution (out, in, kh, kw) is the matrix (out, in kh kw).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

#: Of the quintic iteration that takes singular values to about 1 (Jordan et al. 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalized(stacks: Sequence[Tensor], steps: int = 5) -> list[Tensor]:
    """Stacks (K, R, C) of matrices, each stack of its own shape, with their singular values moved towards 1 by Newton
    and Schulz's iteration: those above a hundredth of the norm come to between 0.7 and 1.2.

    Every iterate is a polynomial of x xᵀ times x, and such polynomials commute. So the polynomial is built of the small
    squares alone, of all stacks whose shorter sides agree at once: many small products cost more than few large ones.
    """
    wide = [x.transpose(1, 2) if x.shape[1] > x.shape[2] else x for x in stacks]
    alike: dict[int, list[int]] = defaultdict(list)
    for i, x in enumerate(wide):
        alike[x.shape[1]].append(i)
    for which in alike.values():
        squares = torch.cat([torch.bmm(wide[i], wide[i].transpose(1, 2)) for i in which])
        # The trace is the squared norm, which the iteration wants to begin at one.
        norms = squares.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].sqrt() + 1e-7
        factors = _polynomial(squares / norms.square(), steps) / norms
        for i, factor in zip(which, torch.split(factors, [len(wide[i]) for i in which]), strict=True):
            wide[i] = torch.bmm(factor, wide[i])
    return [out.transpose(1, 2) if x.shape[1] > x.shape[2] else out for out, x in zip(wide, stacks, strict=True)]


def _polynomial(square: Tensor, steps: int) -> Tensor:
    """The polynomial of x xᵀ (K, R, R) that ``steps`` iterations multiply x by."""
    q: Tensor | None = None
    for step in range(steps):
        factor = torch.baddbmm(square, square, square, beta=_B, alpha=_C)
        factor.diagonal(dim1=1, dim2=2).add_(_A)
        q = factor if q is None else torch.bmm(factor, q)
        if step + 1 < steps:
            square = torch.bmm(torch.bmm(factor, square), factor)
    assert q is not None
    return q


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; decoupled weight decay.

    Args:
        params: tensors of two or more dimensions.
        lr: as for AdamW.
        momentum: of the running mean of gradients.
        weight_decay: decoupled.

    Where ``found_inf`` (), a float tensor, is set and holds 1, a step changes nothing, and nobody waits to read it, as
    with torch's fused optimisers.
    """

    _step_supports_amp_scaling = True
    found_inf: Tensor | None = None

    def __init__(
        self, params: Iterable[Tensor], lr: float = 2e-3, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        weights = list(params)
        for weight in weights:
            if _matrix(weight, weight).data_ptr() != weight.data_ptr():
                raise ValueError(f"Muon needs weights whose memory is in order, not {weight.stride()}")
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        for p in params:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in params]
        if self.found_inf is None:
            self._move(group, params, momenta)
            return
        changed = [*params, *momenta]
        before = [tensor.clone() for tensor in changed]
        self._move(group, params, momenta)
        for tensor, old in zip(changed, before, strict=True):
            tensor.copy_(torch.where(self.found_inf > 0, old, tensor))

    def _move(self, group: dict[str, Any], params: list[Tensor], momenta: list[Tensor]) -> None:
        grads = [p.grad for p in params]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, momenta, group["momentum"])
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, p in enumerate(params):
            alike[(p.shape[0], p[0].numel())].append(i)
        directions = orthogonalized(
            [torch.stack([_matrix(ahead[i], params[i]) for i in which]) for which in alike.values()]
        )
        for (shape, which), direction in zip(alike.items(), directions, strict=True):
            weights = [_matrix(params[i], params[i]) for i in which]
            rate = group["lr"] * 0.2 * max(shape) ** 0.5
            torch._foreach_add_(weights, list(direction.unbind()), alpha=-rate)


def _matrix(values: Tensor, weight: Tensor) -> Tensor:
    """Values shaped like a weight as (out, rest), a view if they lie in memory as the weight does. The order of the
    columns changes nothing but the order of the result's, so it is that of the weight's memory: a channels_last
    convolution is not copied."""
    if weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        return values.permute(0, 2, 3, 1).flatten(1)
    return values.flatten(1)
