"""Fused norms against torch's own operations, and their gradients against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional

from limner.models.fused import modulated, normed_and_turned
from limner.models.layers import wide


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()


def turning(length: int, dim: int) -> Tensor:
    angle = torch.linspace(-3, 3, length * dim // 2, dtype=torch.float64).reshape(length, 1, 1, dim // 2)
    return torch.polar(torch.ones_like(angle), angle)


def test_modulated_is_torchs_norm_modulated() -> None:
    x, scale, shift = drawn(2, 5, 9), drawn(2, 1, 9), drawn(2, 1, 9).detach().exp().requires_grad_()
    expected = functional.rms_norm(x, (9,), eps=1e-6) * (1 + scale) + shift
    torch.testing.assert_close(modulated(x, scale, shift), expected)
    assert gradcheck(modulated, (x, scale, shift))


def test_normed_and_turned_is_torchs_norm_turned() -> None:
    x, weight, turns = drawn(2, 4, 2, 3, 6), drawn(2, 3, 6), turning(4, 6)
    normed = functional.rms_norm(x, (6,), eps=1e-6) * weight
    cos, sin, a, b = turns.real, turns.imag, normed[..., 0::2], normed[..., 1::2]
    expected = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    torch.testing.assert_close(normed_and_turned(x, weight, turns), expected)
    assert gradcheck(lambda x, weight: normed_and_turned(x, weight, turns), (x, weight))


def test_without_gradients_the_same_bits() -> None:
    x, weight, turns = drawn(2, 4, 2, 3, 6), drawn(2, 3, 6), turning(4, 6)
    kept = x.detach().clone()
    assert torch.equal(normed_and_turned(x.detach(), weight.detach(), turns), normed_and_turned(x, weight, turns))
    assert torch.equal(x, kept)


def test_a_gradient_is_left_as_it_was_given() -> None:
    """Other branches of a graph may still need it."""
    x, given = drawn(1, 4, 2, 3, 6), drawn(1, 4, 2, 3, 6).detach()
    kept = given.clone()
    normed_and_turned(x, torch.ones(2, 3, 6, dtype=torch.float64), turning(4, 6)).backward(given)
    assert torch.equal(given, kept)


def test_a_row_of_zeros_stays_finite() -> None:
    x = torch.zeros(1, 2, 4, requires_grad=True)
    modulated(x, torch.zeros(1, 1, 4), torch.ones(1, 1, 4)).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("narrow", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_wide(narrow: torch.dtype, expected: torch.dtype) -> None:
    assert wide(torch.ones(1, dtype=narrow)).dtype == expected
