"""Muon: momentum whose direction is orthogonalised, for the matrices and convolutions inside a network.

After Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/), with the update's size matched to that of
AdamW (Liu et al. 2025, *Muon is scalable for LLM training*, section 2.2), so that one rate serves both kinds of
parameters. A convolution (out, in, kh, kw) is the matrix (out, in kh kw).

Of sharded weights (``limner.shards``) the momenta are put together, some at a time, and every process orthogonalises
all of them: the step is that of whole weights, for as many bytes as ``fully_shard`` spends to put the weights together
once, and for products that are small beside those of a training batch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from limner.models.layers import narrow
from limner.shards import gathered, is_sharded, local, rows

#: Quintics a x + b x^3 + c x^5, one after the other, each the nearest to 1 over what the one before leaves of 0.003 to
#: 1 (after Amsel et al. 2025, *The polar express*, section 3): four do what one does five times (Jordan et al. 2024).
_QUINTICS = (
    (8.383703, -24.766066, 18.357213),
    (4.04355, -3.011497, 0.569523),
    (3.505954, -2.626941, 0.525753),
    (2.490591, -1.83468, 0.43688),
)
#: In bfloat16, of x / 1.01: what rounding adds to the largest singular values stays where the next one is small.
_SAFE = tuple((a / 1.01, b / 1.01**3, c / 1.01**5) for a, b, c in _QUINTICS)
#: Sharded weights that are put together at once, in numbers.
_PORTION = 2**26


def orthogonalized(stacks: Sequence[Tensor]) -> list[Tensor]:
    """Stacks (K, R, C) of matrices, each stack of its own shape, with their singular values moved towards 1 by Newton
    and Schulz's iteration: those above 0.003 of the norm come to between 0.8 and 1.2. Under ``arithmetic`` of bfloat16
    the products are in it (as Jordan et al. 2024 have them), and so is what is returned.

    Tall matrices are multiplied from the right and wide ones from the left, so that what is returned lies in memory as
    the weights do: nothing that a weight meets in another order is fast."""
    narrowed = [*map(narrow, stacks)]
    if narrowed and narrowed[0].dtype == torch.bfloat16:
        return [*map(_iterated, narrowed)]
    return _by_squares(narrowed)


def _square(x: Tensor) -> Tensor:
    """The smaller of x xᵀ and xᵀ x, of matrices (K, R, C)."""
    turned = x.transpose(1, 2)
    return torch.bmm(turned, x) if _tall(x) else torch.bmm(x, turned)


def _tall(x: Tensor) -> bool:
    return x.shape[1] > x.shape[2]


def _iterated(x: Tensor) -> Tensor:
    """Of matrices (K, R, C), step by step: the squares of small singular values would be lost in bfloat16."""
    with torch.autocast(x.device.type, enabled=False):
        square = _square(x)
        norms = _norms(square)
        x = _stepped(x, square / norms.square(), *_SAFE[0]).div_(norms)
        for a, b, c in _SAFE[1:]:
            x = _stepped(x, _square(x), a, b, c)
    return x


def _stepped(x: Tensor, square: Tensor, a: float, b: float, c: float) -> Tensor:
    """a x + b square x + c square² x, or with x on the left."""
    factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
    return torch.baddbmm(x, x, factor, beta=a) if _tall(x) else torch.baddbmm(x, factor, x, beta=a)


def _by_squares(stacks: Sequence[Tensor]) -> list[Tensor]:
    """Every iterate is a polynomial of x xᵀ times x, and such polynomials commute. So the polynomial is built of the
    small squares alone, of all stacks whose shorter sides agree at once: many small products cost more than few large
    ones."""
    alike: dict[int, list[int]] = defaultdict(list)
    for i, x in enumerate(stacks):
        alike[min(x.shape[1:])].append(i)
    out = [*stacks]
    for which in alike.values():
        squares = torch.cat([_square(stacks[i]) for i in which])
        norms = _norms(squares)
        factors = _polynomial(squares / norms.square()) / norms
        for i, factor in zip(which, torch.split(factors, [len(stacks[i]) for i in which]), strict=True):
            x = stacks[i]
            out[i] = torch.bmm(x, factor) if _tall(x) else torch.bmm(factor, x)
    return out


def _norms(squares: Tensor) -> Tensor:
    """(K, 1, 1), at which the iteration wants to begin, of squares (K, R, R): the trace is the squared norm."""
    traces = squares.diagonal(dim1=1, dim2=2).sum(1, dtype=torch.promote_types(squares.dtype, torch.float32))
    return (traces.sqrt() + 1e-7).to(squares.dtype)[:, None, None]


def _polynomial(square: Tensor) -> Tensor:
    """The polynomial of squares (K, R, R) that the iterations multiply x by."""
    q: Tensor | None = None
    for step, (a, b, c) in enumerate(_QUINTICS):
        factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        q = factor if q is None else torch.bmm(factor, q)
        if step + 1 < len(_QUINTICS):
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
            held = local(weight)
            if _matrix(held, held).data_ptr() != held.data_ptr():
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
        changed = [*map(local, params), *map(local, momenta)]
        before = [tensor.clone() for tensor in changed]
        self._move(group, params, momenta)
        for tensor, old in zip(changed, before, strict=True):
            tensor.copy_(torch.where(self.found_inf > 0, old, tensor))

    def _move(self, group: dict[str, Any], params: list[Tensor], momenta: list[Tensor]) -> None:
        weights, held = [*map(local, params)], [*map(local, momenta)]
        grads = [local(p.grad) for p in params if p.grad is not None]
        torch._foreach_lerp_(held, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, held, group["momentum"])
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        for some in _portions(params):
            whole = gathered([ahead[i] for i in some], [params[i] for i in some])
            self._turn(group["lr"], [params[i] for i in some], [weights[i] for i in some], whole)

    @staticmethod
    def _turn(lr: float, params: list[Tensor], weights: list[Tensor], ahead: list[Tensor]) -> None:
        """Move ``weights``, what is held of ``params``, by the orthogonalised ``ahead``."""
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, p in enumerate(params):
            alike[(p.shape[0], math.prod(p.shape[1:]))].append(i)
        directions = orthogonalized(
            [torch.stack([narrow(_matrix(ahead[i], weights[i])) for i in which]) for which in alike.values()]
        )
        for (shape, which), direction in zip(alike.items(), directions, strict=True):
            targets = [_matrix(weights[i], weights[i]) for i in which]
            whole = direction.to(targets[0].dtype).unbind()
            parts = [rows(one, params[i]) for one, i in zip(whole, which, strict=True)]
            rate = lr * 0.2 * max(shape) ** 0.5
            torch._foreach_add_(targets, parts, alpha=-rate)


def _portions(params: list[Tensor]) -> list[list[int]]:
    """Numbers of the weights that are put together at once: all where they are whole, else not too many."""
    if not any(map(is_sharded, params)):
        return [[*range(len(params))]]
    out: list[list[int]] = [[]]
    size = 0
    for i, p in enumerate(params):
        if out[-1] and size + p.numel() > _PORTION:
            out.append([])
            size = 0
        out[-1].append(i)
        size += p.numel()
    return out


def _matrix(values: Tensor, weight: Tensor) -> Tensor:
    """Values shaped like a weight as (out, rest), a view if they lie in memory as the weight does. The order of the
    columns changes nothing but the order of the result's, so it is that of the weight's memory: a channels_last
    convolution is not copied."""
    if weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        return values.permute(0, 2, 3, 1).flatten(1)
    return values.flatten(1)
