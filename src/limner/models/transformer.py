"""What transformers that write are made of: attention to what is written and SwiGLU, and a cache of keys and values.

With the parts that later work settled on, as in ``dit``: rotary positions over rows and columns (Su et al. 2021) beside
learned ones, RMS norms, also of queries and keys, and SwiGLU (Shazeer 2020). Sampling keeps keys and values of all
sites before, so that a site costs its own tokens' products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Autoregressor, Condition
from limner.distributions import Categorical
from limner.errors import UserError, within
from limner.models.embedding import labelled
from limner.models.fused import normed_and_turned
from limner.models.layers import Pointwise, attend, narrow, silu, to_multiple, wide, zeroed

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values of all tokens, (N, heads, T, D) each, to what each hears of those that it may hear."""


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a transformer that writes.

    Attributes:
        width: of a token; a multiple of 4 x heads.
        depth: blocks.
        heads: of attention.
        dropout: probability after attention and after the two-layer network.
    """

    width: int = 192
    depth: int = 6
    heads: int = 3
    dropout: float = 0.0

    def __post_init__(self) -> None:
        within("net.width", self.width, 4, 16384)
        within("net.depth", self.depth, 1, 256)
        within("net.heads", self.heads, 1, 256)
        within("net.dropout", self.dropout, 0, 0.99)
        if self.width % (4 * self.heads):
            raise UserError(f"net.width is {self.width}; with {self.heads} heads give a multiple of {4 * self.heads}")


@dataclass
class Memory:
    """Keys and values of a block's tokens so far, (N, heads, T, D) each, of which the first ones are written."""

    keys: Tensor
    values: Tensor

    def index(self, which: Tensor) -> Memory:
        return Memory(self.keys[which], self.values[which])


class Block(nn.Module):
    """Attention and SwiGLU, each behind a norm, around which x passes."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        hidden = to_multiple(width * 8 / 3, 16)
        self.heads = heads
        self.norm0, self.norm1 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qk = Pointwise(width, 2 * width, bias=False)
        self.value = Pointwise(width, width, bias=False)
        self.qk_scale = nn.Parameter(torch.ones(2, heads, width // heads))
        self.out = zeroed(Pointwise(width, width, bias=False))
        self.gate = Pointwise(width, hidden, bias=False)
        self.up = Pointwise(width, hidden, bias=False)
        self.down = zeroed(Pointwise(hidden, width, bias=False))
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor, turns: Tensor, attention: Attention) -> Tensor:
        """All tokens side by side, (N, T, D)."""
        return self._added(x, attention(*self._heard(x, turns)))

    def step(self, x: Tensor, turns: Tensor, memory: Memory, places: slice) -> Tensor:
        """The tokens of the next site, (N, V, D), which hear each other and all before."""
        query, memory.keys[:, :, places], memory.values[:, :, places] = self._heard(x, turns)
        return self._added(x, attend(query, memory.keys[:, :, : places.stop], memory.values[:, :, : places.stop]))

    def _heard(self, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (N, heads, T, D) each."""
        n, length, width = x.shape
        per_head = (self.heads, width // self.heads)
        h = narrow(self.norm0(x))
        qk = normed_and_turned(wide(self.qk(h)).reshape(n, length, 2, *per_head), self.qk_scale, turns)
        query, key = qk.transpose(1, 3).unbind(2)
        return query, key, self.value(h).reshape(n, length, *per_head).transpose(1, 2)

    def _added(self, x: Tensor, heard: Tensor) -> Tensor:
        x = x + wide(self.dropout(self.out(heard.transpose(1, 2).flatten(2))))
        h = narrow(self.norm1(x))
        return x + wide(self.dropout(self.down(silu(self.gate(h)) * self.up(h))))


@dataclass
class TokenState:
    """What is kept between sites.

    Attributes:
        place: of the next token.
        label: what the class tells, (N, 1, D).
        placed: what places tell, (T, D).
        turns: of queries and keys, (T, 1, 1, D / 2).
        memories: of each block.
    """

    place: int
    label: Tensor | None
    placed: Tensor
    turns: Tensor
    memories: list[Memory]

    def index(self, which: Tensor) -> TokenState:
        label = None if self.label is None else self.label[which]
        return replace(self, label=label, memories=[memory.index(which) for memory in self.memories])


class WritingTransformer(Autoregressor):
    """Values (N, T), each a token, by blocks that differ in who hears whom, and in what a token is told.

    Args:
        config: its shape.
        levels: how many values a token may have.
        classes: number of labels; 0 makes it unconditional. Label -1 is the null label.
    """

    def __init__(self, config: TransformerConfig, levels: int, classes: int) -> None:
        super().__init__()
        dim = config.width
        self.heads, self.dim = config.heads, dim
        self.embed = nn.Embedding(levels, dim)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.label = nn.Embedding(classes + 1, dim) if classes else None
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(dim, config.heads, config.dropout) for _ in range(config.depth))
        self.norm = nn.RMSNorm(dim)
        self.head = zeroed(Pointwise(dim, levels))

    def attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """An :data:`Attention`."""
        raise NotImplementedError

    def told(self, values: Tensor) -> Tensor:
        """What each token is told (N, T, D) of the values (N, T) of sites before its own."""
        raise NotImplementedError

    def placed(self) -> Tensor:
        """What places tell, (T, D)."""
        raise NotImplementedError

    def turns(self) -> Tensor:
        """By which queries and keys are turned, (T, 1, 1, D / 2)."""
        raise NotImplementedError

    def nats(self, values: Tensor, cond: Condition) -> Tensor:
        """ln p of each value given those of sites before its own, (N, T)."""
        return -F.cross_entropy(self.said(values, cond).transpose(1, 2), values, reduction="none")

    def said(self, values: Tensor, cond: Condition) -> Tensor:
        """Logits (N, T, K) of every value, given those of sites before its own."""
        return self._head(self.through(self.told(values), cond))

    def through(self, x: Tensor, cond: Condition) -> Tensor:
        """What all tokens, side by side, make of what they are told, (N, T, D) each."""
        x = x + self.placed()
        label = self._labelled(cond, len(x))
        if label is not None:
            x = x + label
        turns = self.turns()
        for block in self.blocks:
            x = block(x, turns, self.attention)
        return x

    def _head(self, x: Tensor) -> Tensor:
        return wide(self.head(narrow(self.norm(x))))

    def _labelled(self, cond: Condition, n: int) -> Tensor | None:
        """(N, 1, D)."""
        label = labelled(self.label, cond, n)
        return None if label is None else label[:, None]

    def _begun(self, n: int, cond: Condition) -> TokenState:
        """What is kept of n pictures of which nothing is written."""
        placed, weight = self.placed(), self.embed.weight
        shape = (n, self.heads, len(placed), self.dim // self.heads)
        memories = [Memory(weight.new_empty(shape), weight.new_empty(shape)) for _ in self.blocks]
        return TokenState(0, self._labelled(cond, n), placed, self.turns(), memories)

    def _next(self, state: TokenState, x: Tensor) -> Categorical:
        """What the next site may be, whose tokens are told x (N, V, D); ``state`` moves on."""
        places = slice(state.place, state.place + x.shape[1])
        x = x + state.placed[places]
        if state.label is not None:
            x = x + state.label
        for block, memory in zip(self.blocks, state.memories, strict=True):
            assert isinstance(block, Block)
            x = block.step(x, state.turns[places], memory, places)
        state.place = places.stop
        return Categorical(self._head(x))
