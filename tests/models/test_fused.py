"""Fused norms against torch's own operations, and their gradients against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn import functional

from limner.contracts import arithmetic
from limner.models.fused import RMSNorm, gated, modulated, normed_and_turned, swiglu
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


def test_rms_norm_is_torchs() -> None:
    norm, x = RMSNorm(9).double(), drawn(2, 5, 9)
    weight = drawn(9)
    norm.weight = nn.Parameter(weight.detach())
    torch.testing.assert_close(norm(x), functional.rms_norm(x, (9,), weight, eps=1e-6))
    assert gradcheck(lambda x, weight: torch.func.functional_call(norm, {"weight": weight}, (x,)), (x, weight))
    with torch.no_grad():
        assert torch.equal(norm(x.detach()), norm(x.detach().requires_grad_()))


def test_gated_is_a_product_added() -> None:
    x, gate, y = drawn(2, 5, 9), drawn(2, 1, 9), drawn(2, 5, 9)
    torch.testing.assert_close(gated(x, gate, y), x + gate * y)
    assert gradcheck(gated, (x, gate, y))


def test_swiglu_is_torchs_silu_times_another() -> None:
    gate, up = drawn(2, 5, 9), drawn(2, 5, 9).detach().exp().requires_grad_()
    torch.testing.assert_close(swiglu(gate, up), functional.silu(gate) * up)
    assert gradcheck(swiglu, (gate, up))
    expected = swiglu(gate, up).detach()
    with torch.no_grad():
        assert torch.equal(swiglu(gate.clone(), up), expected)


def parts(x: Tensor, weight: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    query, key = normed_and_turned(x, weight, turns)
    return query, key


def test_normed_and_turned_is_torchs_norm_turned() -> None:
    x, weight, turns = drawn(2, 4, 2, 3, 6), drawn(2, 3, 6), turning(4, 6)
    normed = functional.rms_norm(x, (6,), eps=1e-6) * weight
    cos, sin, a, b = turns.real, turns.imag, normed[..., 0::2], normed[..., 1::2]
    expected = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    torch.testing.assert_close(torch.stack(parts(x, weight, turns)), expected.permute(2, 0, 3, 1, 4))
    assert gradcheck(lambda x, weight: parts(x, weight, turns), (x, weight))


def test_without_gradients_the_same_bits() -> None:
    x, weight, turns = drawn(2, 4, 2, 3, 6), drawn(2, 3, 6), turning(4, 6)
    kept = x.detach().clone()
    for free, taught in zip(parts(x.detach(), weight.detach(), turns), parts(x, weight, turns), strict=True):
        assert torch.equal(free, taught)
    assert torch.equal(x, kept)


def test_gradients_are_left_as_they_were_given() -> None:
    """Other branches of a graph may still need them."""
    x, given = drawn(1, 4, 2, 3, 6), [drawn(1, 3, 4, 6).detach(), drawn(1, 3, 4, 6).detach() + 1]
    kept = [one.clone() for one in given]
    torch.autograd.backward(parts(x, torch.ones(2, 3, 6, dtype=torch.float64), turning(4, 6)), given)
    gate, y = drawn(1, 1, 6), drawn(1, 4, 6)
    gated(drawn(1, 4, 6), gate, y).backward(given[0][:, 0])
    modulated(drawn(1, 4, 6), gate, gate).backward(given[0][:, 0])
    swiglu(drawn(1, 4, 6), y).backward(given[0][:, 0])
    for one, before in zip(given, kept, strict=True):
        assert torch.equal(one, before)


def test_what_is_narrow_is_summed_in_float32() -> None:
    """In bfloat16 answers and gradients are those of float32, rounded: no more than its last bit away."""
    x, scale, weight = (drawn(*shape, dtype=torch.float32) for shape in ((3, 8, 16), (3, 1, 16), (2, 2, 8)))
    y, qk, turns = drawn(3, 8, 16), drawn(3, 8, 2, 2, 8), turning(8, 8).to(torch.complex64)
    told: list[list[Tensor]] = []
    for precision in (torch.float32, torch.bfloat16):
        leaves = [one.detach().bfloat16().to(precision).requires_grad_() for one in (y, qk)]
        leaves += [one.detach().requires_grad_() for one in (x, scale, weight)]
        with arithmetic(torch.device("cpu"), "float32" if precision == torch.float32 else "bfloat16"):
            out = [*parts(leaves[1], leaves[4], turns), modulated(leaves[2], leaves[3], leaves[3])]
            out.append(gated(leaves[2], leaves[3], leaves[0]))
        assert [one.dtype for one in out] == [precision, precision, precision, torch.float32]
        # Whole numbers, which bfloat16 has too.
        given = [torch.arange(one.numel()).remainder(7).sub(3).to(one).view_as(one) for one in out]
        torch.autograd.backward(out, given)
        told.append([*out, *(one.grad for one in leaves if one.grad is not None)])
    for exact, rounded in zip(*told, strict=True):
        torch.testing.assert_close(rounded.float(), exact, rtol=2**-8, atol=1e-5)


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
