"""Networks in half precision: what is too delicate or too slow for it is done in float32."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import arithmetic
from limner.models.attention import attend, causal_by_blocks
from limner.models.layers import GroupNorm, Pointwise, narrow, scaled, silu, wide

CPU = torch.device("cpu")


def test_group_norm_of_half_precision_is_that_of_float32() -> None:
    x = (torch.randn(3, 16, 5, 4, generator=torch.Generator().manual_seed(0)) * 40 + 300).bfloat16()
    norm = GroupNorm(4, 16)
    with arithmetic(CPU, "bfloat16"):
        out = norm(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, nn.GroupNorm(4, 16)(x.float()), rtol=0, atol=0)


@pytest.mark.parametrize("groups", [1, 4])
def test_group_norm_behind_a_frozen_layer(groups: int) -> None:
    """Torch's own reads memory that is not there: only the weights ask for a gradient."""
    x = torch.randn(3, 16, 5, 4, generator=torch.Generator().manual_seed(0))
    norm, peer = GroupNorm(groups, 16), nn.GroupNorm(groups, 16)
    norm(x.contiguous(memory_format=torch.channels_last)).square().sum().backward()
    peer(x).square().sum().backward()
    for one, other in zip(norm.parameters(), peer.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("tokens", [1, 97, 98, 99, 300])
def test_causal_attention_by_blocks_is_torchs(tokens: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    given = torch.randn(4, 2, 3, tokens, 8, generator=generator, dtype=torch.float64)
    told = []
    for attention in (causal_by_blocks, partial(F.scaled_dot_product_attention, is_causal=True)):
        leaves = [one.clone().requires_grad_() for one in given[:3]]
        out = attention(*leaves)
        told.append([out, *torch.autograd.grad(out, leaves, given[3])])
    for ours, torchs in zip(*told, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "causal"), [(10, False), (200, False), (10, True), (200, True)])
def test_attention_is_that_of_float32_at_least(dtype: torch.dtype, tokens: int, causal: bool) -> None:
    """Few tokens and many, by products and in blocks, with gradients and without."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, tokens, 8)
    q, k, v = (torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(3))
    with arithmetic(CPU, "bfloat16"):
        out = attend(q, k, v, causal=causal)
        with torch.no_grad():
            drawn = attend(q, k, v, causal=causal)
    expected = F.scaled_dot_product_attention(wide(q), wide(k), wide(v), is_causal=causal)
    # Of bfloat16 scores of a size of three differ by a hundredth, and so do their exponentials.
    close = {"rtol": 0.05, "atol": 0.02} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    for one in (out, drawn):
        torch.testing.assert_close(one.to(expected.dtype), expected, **close)
    grads = torch.autograd.grad(wide(out).square().sum(), (q, k, v))
    assert [g.dtype for g in grads] == [dtype] * 3
    for one, other in zip(grads, torch.autograd.grad(expected.square().sum(), (q, k, v)), strict=True):
        torch.testing.assert_close(one, other, rtol=close["rtol"], atol=3 * close["atol"])


@pytest.mark.parametrize("shape", [(1, 1), (4, 9), (1, 130), (5, 31), (16, 10), (2, 9, 8)])
@pytest.mark.parametrize("bias", [False, True])
def test_pointwise_is_a_linear_layer(shape: tuple[int, ...], bias: bool) -> None:
    """Values and gradients, second ones too, whatever the memory of its input looks like."""
    generator = torch.Generator().manual_seed(0)
    layer = Pointwise(6, 4, bias=bias)
    for x in (torch.randn(*shape, 6, generator=generator), torch.randn(6, *shape, generator=generator).movedim(0, -1)):
        x.requires_grad_()
        out, expected = layer(x), F.linear(x, layer.weight, layer.bias)
        assert out.is_contiguous()
        torch.testing.assert_close(out, expected)
        inputs = (x, *layer.parameters())
        for one, other in zip(_slopes(out, inputs), _slopes(expected, inputs), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def _slopes(out: Tensor, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Of a sum of cubes, and of how steep it is."""
    first = torch.autograd.grad(out.pow(3).sum(), inputs, create_graph=True)
    return [*first, *torch.autograd.grad(first[0].square().sum(), inputs)]


def test_arithmetic_is_that_precision_whatever_is_around_it() -> None:
    layer, x = nn.Linear(4, 4), torch.ones(2, 4)
    with arithmetic(CPU, "bfloat16"):
        assert layer(x).dtype == torch.bfloat16
        with arithmetic(CPU, "float32"):
            assert layer(x).dtype == torch.float32


def test_what_goes_into_products_is_cast_once_and_only_under_autocast() -> None:
    x = torch.randn(3, 4)
    assert narrow(x) is x
    assert narrow(torch.zeros(3, device="meta")).dtype == torch.float32
    with arithmetic(CPU, "bfloat16"):
        assert torch.equal(narrow(x), x.bfloat16())


def test_without_gradients_memory_is_taken_again_for_the_same_values() -> None:
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    scale, shift = torch.full((3, 4, 1, 1), 1.5), torch.full((3, 4, 1, 1), -0.2)
    with_gradients = silu(scaled(x, scale, shift))
    with torch.no_grad():
        mine = x.clone()
        assert torch.equal(silu(scaled(mine, scale, shift)), with_gradients)
    assert torch.equal(mine, with_gradients)
    assert not torch.equal(x, with_gradients)
