"""Two pieces of a transformer whose gradients autograd would spread over a dozen passes through memory.

A processor reaches only part of its arithmetic where a network is narrow: the passes over activations between the
matrix products cost as much as these. Each of the functions here keeps what its gradient needs and takes the fewest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_EPSILON = 1e-6


def _inverse_rms(x: Tensor) -> Tensor:
    """1 / root mean square over the last dimension, which stays with size 1 (Zhang and Sennrich 2019)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.square_().div_(x.shape[-1]).add_(_EPSILON).rsqrt_()


class _Modulated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        inverse = _inverse_rms(x)
        normed, factor = x * inverse, scale + 1
        ctx.save_for_backward(normed, inverse, factor)
        return torch.addcmul(shift, normed, factor, out=None if any(ctx.needs_input_grad) else normed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        normed, inverse, factor = ctx.saved_tensors
        product = grad * normed
        along = torch.matmul(product, factor.transpose(1, 2)).div_(normed.shape[-1])
        by_x = (grad * factor).addcmul_(normed, along, value=-1).mul_(inverse)
        return by_x, product.sum(1, keepdim=True), grad.sum(1, keepdim=True)


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x / RMS(x) * (scale + 1) + shift: x (N, L, D), scale and shift (N, 1, D), all float32 or float64."""
    out: Tensor = _Modulated.apply(x, scale, shift)  # type: ignore[no-untyped-call]
    return out


class _NormedAndTurned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, turns: Tensor) -> Tensor:
        inverse = _inverse_rms(x)
        normed = x * inverse
        ctx.save_for_backward(normed, inverse, weight, turns)
        out = normed * weight if any(ctx.needs_input_grad) else normed.mul_(weight)
        _pairs(out).mul_(turns)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, inverse, weight, turns = ctx.saved_tensors
        back = torch.view_as_real(_pairs(grad.contiguous()) * turns.conj_physical()).flatten(-2)
        product = back * normed
        by_weight = product.sum((0, 1))
        along = product.mul_(weight).mean(-1, keepdim=True)
        return back.mul_(weight).addcmul_(normed, along, value=-1).mul_(inverse), by_weight, None


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))


def normed_and_turned(x: Tensor, weight: Tensor, turns: Tensor) -> Tensor:
    """x / RMS(x) * weight with its pairs (2i, 2i + 1) turned as complex numbers.

    Args:
        x: (N, L, ..., D), contiguous, D even, float32 or float64.
        weight: (..., D), of the same dimensions between.
        turns: (L, 1, ..., D / 2), complex of absolute value 1.
    """
    out: Tensor = _NormedAndTurned.apply(x, weight, turns)  # type: ignore[no-untyped-call]
    return out
