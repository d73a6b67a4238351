"""Pieces of a transformer whose gradients autograd would spread over a dozen passes through memory.

A processor reaches only part of its arithmetic where a network is narrow: the passes over activations between the
matrix products cost as much as these. Each of the functions here keeps what its gradient needs, no wider than it was
given, and takes the fewest passes. Sums and norms are in float32 at least.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from limner.models.layers import narrow_type, wide

_EPSILON = 1e-6


def _inverse_rms(x: Tensor) -> Tensor:
    """1 / root mean square over the last dimension, which stays with size 1 (Zhang and Sennrich 2019)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.square_().div_(x.shape[-1]).add_(_EPSILON).rsqrt_()


class _Modulated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
        inverse = _inverse_rms(x)
        normed, factor = x * inverse, scale + 1
        ctx.save_for_backward(normed, inverse, factor)
        return torch.addcmul(shift, normed, factor, out=None if any(ctx.needs_input_grad) else normed).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        normed, inverse, factor = ctx.saved_tensors
        given = wide(grad)
        by_shift = given.sum(1, keepdim=True)
        product = given * normed
        by_scale = product.sum(1, keepdim=True)
        along = torch.matmul(product, factor.transpose(1, 2)).div_(normed.shape[-1])
        by_x = torch.mul(given, factor, out=product).addcmul_(normed, along, value=-1).mul_(inverse)
        return by_x, by_scale, by_shift, None


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x / RMS(x) * (scale + 1) + shift: x (N, L, D), scale and shift (N, 1, D), all float32 or float64; in the type
    that products of it will be made in."""
    out: Tensor = _Modulated.apply(x, scale, shift, narrow_type(x))  # type: ignore[no-untyped-call]
    return out


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        inverse = _inverse_rms(x)
        normed = x * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return torch.mul(normed, weight, out=None if any(ctx.needs_input_grad) else normed).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, inverse, weight = ctx.saved_tensors
        given = wide(grad)
        product = given * normed
        by_weight = product.sum((0, 1))
        along = torch.matmul(product, weight[:, None]).div_(normed.shape[-1])
        return torch.mul(given, weight, out=product).addcmul_(normed, along, value=-1).mul_(inverse), by_weight, None


class RMSNorm(nn.Module):
    """x / RMS(x) * weight (Zhang and Sennrich 2019), x (N, L, D) float32 or float64, in the type that products of it
    will be made in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Normed.apply(x, self.weight, narrow_type(x))  # type: ignore[no-untyped-call]
        return out


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(gate, y)
        return torch.addcmul(x, gate, wide(y))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gate, y = ctx.saved_tensors
        product = y.to(grad.dtype, copy=True).mul_(grad)
        by_gate = product.sum(1, keepdim=True)
        return grad, by_gate, torch.mul(grad, gate, out=product).to(y.dtype)


def gated(x: Tensor, gate: Tensor, y: Tensor) -> Tensor:
    """x + gate * y: x (N, L, D) and gate (N, 1, D), float32 or float64, y (N, L, D) as narrow as products are."""
    out: Tensor = _Gated.apply(x, gate, y)  # type: ignore[no-untyped-call]
    return out


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        opened = F.silu(gate)
        ctx.save_for_backward(gate, up, opened)
        return opened * up

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up, opened = ctx.saved_tensors
        by_gate = grad * up
        torch.ops.aten.silu_backward.grad_input(by_gate, gate, grad_input=by_gate)
        return by_gate, opened * grad


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up (Shazeer 2020), of any shape and type; where no gradient will ask for the gate in its memory: it
    must be nobody else's."""
    if not torch.is_grad_enabled():
        return F.silu(gate, inplace=True).mul_(up)
    out: Tensor = _SwiGLU.apply(gate, up)  # type: ignore[no-untyped-call]
    return out


class _NormedAndTurned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, turns: Tensor) -> tuple[Tensor, ...]:
        values = wide(x)
        inverse = _inverse_rms(values)
        ctx.save_for_backward(x, inverse, weight, turns)
        parts = (
            part.transpose(1, 2) for part in _turned(values, inverse, weight, turns, own=values is not x).unbind(2)
        )
        return tuple(part.to(x.dtype, memory_format=torch.contiguous_format, copy=True) for part in parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, inverse, weight, turns = ctx.saved_tensors
        back = torch.empty(x.shape, dtype=inverse.dtype, device=x.device)
        for part, grad in zip(back.unbind(2), grads, strict=True):
            part.copy_(grad.transpose(1, 2))
        _pairs(back).mul_(turns.conj_physical())
        # All in two tensors: what is fresh from memory takes several times what a pass over it does.
        product = x.to(back.dtype, copy=True).mul_(inverse).mul_(back)
        by_weight = product.sum((0, 1))
        along = product.mul_(weight).mean(-1, keepdim=True).mul_(inverse.square())
        values = x if x.dtype == back.dtype else product.copy_(x)
        by_x = back.mul_(weight).mul_(inverse).addcmul_(values, along, value=-1)
        return by_x.to(x.dtype), by_weight, None


def _turned(x: Tensor, inverse: Tensor, weight: Tensor, turns: Tensor, *, own: bool) -> Tensor:
    """In the memory of x where it is nobody else's."""
    out = torch.mul(x, inverse, out=x if own else None).mul_(weight)
    _pairs(out).mul_(turns)
    return out


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))


def normed_and_turned(x: Tensor, weight: Tensor, turns: Tensor) -> tuple[Tensor, ...]:
    """x / RMS(x) * weight with its pairs (2i, 2i + 1) turned as complex numbers: K tensors (N, heads, L, D), as narrow
    as x.

    Args:
        x: (N, L, K, heads, D), each token's numbers side by side, D even.
        weight: (K, heads, D), float32 or float64.
        turns: (L, 1, 1, D / 2), complex of absolute value 1.
    """
    if torch.is_grad_enabled():
        out: tuple[Tensor, ...] = _NormedAndTurned.apply(x, weight, turns)  # type: ignore[no-untyped-call]
        return out
    values = wide(x)
    turned = _turned(values, _inverse_rms(values), weight, turns, own=values is not x)
    return tuple(part.transpose(1, 2).to(x.dtype) for part in turned.unbind(2))
