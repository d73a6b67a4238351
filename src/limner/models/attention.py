"""Attention of heads' tokens to one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from limner.models.layers import wide

#: Scores of all heads and tokens of a batch that are kept at once.
_MOST_SCORES = 2**25
#: Tokens whose causal scores are one product: of few, few are computed only to be forbidden.
_BLOCK = 98


def attend(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """Attention of each head's tokens to one another, (N, heads, L, D) each, or to those up to themselves, in the type
    of the values.

    On processors, in bfloat16, it is plain products as long as all scores fit into memory: two to eight times as fast
    as torch's (docs/report-card.md). Where they do not it is in float32 if a gradient will be asked for, because
    torch's in bfloat16 takes ten times as long."""
    query, key = query.to(value.dtype), key.to(value.dtype)
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal)
    with torch.autocast("cpu", enabled=False):
        if _few_scores(query, key):
            return causal_by_blocks(query, key, value) if causal else _by_products(query, key, value)
        if torch.is_grad_enabled():
            query, key, value = wide(query), wide(key), wide(value)
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal)


def _few_scores(query: Tensor, key: Tensor) -> bool:
    heads, tokens = query.shape[:2].numel(), query.shape[2]
    return query.dtype == torch.bfloat16 and tokens > 1 and heads * tokens * key.shape[2] <= _MOST_SCORES


def _by_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q kᵀ / sqrt(D)) v."""
    n, heads, tokens, _ = query.shape
    query, key, value = (x.flatten(0, 1) for x in (query, key, value))
    return torch.bmm(_scores(query, key).softmax(-1), value).reshape(n, heads, tokens, -1)


def _scores(query: Tensor, key: Tensor) -> Tensor:
    """q kᵀ / sqrt(D), (B, L, K), of queries (B, L, D) and keys (B, K, D)."""
    none = query.new_zeros(()).expand(len(query), query.shape[1], key.shape[1])
    return torch.baddbmm(none, query, key.transpose(1, 2), beta=0, alpha=query.shape[2] ** -0.5)


class _CausalByBlocks(torch.autograd.Function):
    """Of (B, L, D) each. Autograd would make of each block's gradient for keys and values one for all tokens."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out, kept = torch.empty_like(value), []
        for block in _blocks(query):
            scores, tokens = _scores(query[:, block], key[:, : block.stop]), block.stop - block.start
            # Added, which takes a quarter of the time of a fill by a mask.
            scores[:, :, block.start :] += scores.new_full((tokens, tokens), -torch.inf).triu(1)
            kept.append(scores.softmax(-1))
            out[:, block] = torch.bmm(kept[-1], value[:, : block.stop])
            if not any(ctx.needs_input_grad):
                kept.clear()
        ctx.save_for_backward(query, key, value, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, *kept = ctx.saved_tensors
        scale, by_query = query.shape[2] ** -0.5, torch.empty_like(query)
        by_key, by_value = (torch.zeros_like(wide(x)) for x in (key, value))
        for block, shares in zip(_blocks(query), kept, strict=True):
            given, end = grad[:, block], block.stop
            by_value[:, :end] += torch.bmm(shares.transpose(1, 2), given)
            by_shares = torch.bmm(given, value[:, :end].transpose(1, 2))
            by_scores = torch._softmax_backward_data(by_shares, shares, -1, shares.dtype)
            by_query[:, block] = torch.bmm(by_scores, key[:, :end]).mul_(scale)
            by_key[:, :end] += torch.bmm(by_scores.transpose(1, 2), query[:, block]).mul_(scale)
        return by_query, by_key.to(key.dtype), by_value.to(value.dtype)


def _blocks(query: Tensor) -> Iterator[slice]:
    tokens = query.shape[1]
    return (slice(first, min(first + _BLOCK, tokens)) for first in range(0, tokens, _BLOCK))


def causal_by_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of tokens (N, heads, L, D) to those up to themselves, a block of queries at a time: half of the scores
    of all are never computed."""
    out: Tensor = _CausalByBlocks.apply(*(x.flatten(0, 1) for x in (query, key, value)))  # type: ignore[no-untyped-call]
    return out.reshape(value.shape)
