"""What transformers that write are made of: attention to what is written and SwiGLU, and a cache of keys and values.

With the parts that later work settled on, as in ``dit``: rotary positions over rows and columns (Su et al. 2021) beside
learned ones, RMS norms, also of queries and keys, and SwiGLU (Shazeer 2020). Sampling keeps keys and values of all
sites before, so that a site costs its own tokens' products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Autoregressor, Condition
from limner.distributions import Categorical
from limner.errors import UserError, within
from limner.models.attention import attend
from limner.models.embedding import labelled
from limner.models.fused import RMSNorm, normed_and_turned, swiglu
from limner.models.layers import Pointwise, narrow, to_multiple, wide, zeroed

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
    """What a block keeps while pictures are written.

    Attributes:
        keys, values: of tokens so far, (N, heads, T, D) each, of which the first ones are written.
        heard, mixed: the weights of what is heard (3 D, D) and of what is mixed (2 D', D), side by side and in the type
            of products: a token at a time, few large products cost less than many small ones.
    """

    keys: Tensor
    values: Tensor
    heard: Tensor
    mixed: Tensor

    def index(self, which: Tensor) -> Memory:
        return replace(self, keys=self.keys[which], values=self.values[which])


class Block(nn.Module):
    """Attention and SwiGLU, each behind a norm, around which x passes."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        hidden = to_multiple(width * 8 / 3, 16)
        self.heads = heads
        self.norm0, self.norm1 = RMSNorm(width), RMSNorm(width)
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
        h = self.norm0(x)
        x = self._added(x, attention(*self._heard(self.qk(h), self.value(h), turns)))
        h = self.norm1(x)
        return self._mixed(x, self.gate(h), self.up(h))

    def memory(self, n: int, length: int) -> Memory:
        """Of n pictures of so many tokens, of which nothing is written."""
        shape = (n, self.heads, length, self.value.out_features // self.heads)
        heard, mixed = torch.cat([self.qk.weight, self.value.weight]), torch.cat([self.gate.weight, self.up.weight])
        keys = self.value.weight.new_empty(shape)
        return Memory(keys, torch.empty_like(keys), narrow(heard), narrow(mixed))

    def step(self, x: Tensor, turns: Tensor, memory: Memory, places: slice) -> Tensor:
        """The tokens of the next site, (N, V, D), which hear each other and all before."""
        width = x.shape[2]
        qk, value = torch.split(F.linear(self.norm0(x), memory.heard), [2 * width, width], dim=2)
        query, memory.keys[:, :, places], memory.values[:, :, places] = self._heard(qk, value, turns)
        x = self._added(x, attend(query, memory.keys[:, :, : places.stop], memory.values[:, :, : places.stop]))
        return self._mixed(x, *F.linear(self.norm1(x), memory.mixed).chunk(2, dim=2))

    def _heard(self, qk: Tensor, value: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (N, heads, T, D) each, of products (N, T, 2 D) and (N, T, D)."""
        n, length, width = value.shape
        per_head = (self.heads, width // self.heads)
        query, key = normed_and_turned(qk.reshape(n, length, 2, *per_head), self.qk_scale, turns)
        return query, key, value.reshape(n, length, *per_head).transpose(1, 2)

    def _added(self, x: Tensor, heard: Tensor) -> Tensor:
        return x + wide(self.dropout(self.out(heard.transpose(1, 2).flatten(2))))

    def _mixed(self, x: Tensor, gate: Tensor, up: Tensor) -> Tensor:
        return x + wide(self.dropout(self.down(swiglu(gate, up))))


def surprise(said: Tensor, values: Tensor, *, none: int = -100) -> Tensor:
    """-ln p of values (N, T) by logits (N, T, K), 0 where the value is ``none``."""
    return F.cross_entropy(said.flatten(0, 1), values.flatten(), ignore_index=none, reduction="none").view(values.shape)


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
        self.norm = RMSNorm(dim)
        self.head = zeroed(Pointwise(dim, levels))

    def attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """An :data:`Attention`."""
        raise NotImplementedError

    def told(self, values: Tensor) -> Tensor:
        """What each token is told (N, T, D) of the values (N, T) of sites before its own."""
        raise NotImplementedError

    def heard(self, values: Tensor, cond: Condition) -> Tensor:
        """What all tokens are told, (N, T, D): those of values, behind what else is heard before them."""
        return self.told(values)

    def placed(self) -> Tensor:
        """What places tell, (T, D)."""
        raise NotImplementedError

    def turns(self) -> Tensor:
        """By which queries and keys are turned, (T, 1, 1, D / 2)."""
        raise NotImplementedError

    def nats(self, values: Tensor, cond: Condition) -> Tensor:
        """ln p of each value given those of sites before its own, (N, T)."""
        return -surprise(self.said(values, cond), values)

    def said(self, values: Tensor, cond: Condition) -> Tensor:
        """Logits (N, T, K) of every value, given those of sites before its own."""
        return self._head(self.through(values, cond)[:, -values.shape[1] :])

    def features(self, values: Tensor, cond: Condition) -> Tensor:
        """What each layer makes of values (N, T), averaged over all tokens: the normed inputs of every block, and of
        the head, (depth + 1, N, D) (Chen et al. 2020, *Generative pretraining from pixels*, sections 2.3 and 2.4)."""
        length, norms = values.shape[1], [*(cast(Block, block).norm0 for block in self.blocks), self.norm]
        passed = zip(norms, self._passed(values, cond), strict=True)
        return torch.stack([norm(x[:, -length:]).mean(1) for norm, x in passed])

    def through(self, values: Tensor, cond: Condition) -> Tensor:
        """What the blocks make of all tokens, (N, T, D), and before them of those that are no values."""
        for x in self._passed(values, cond):  # noqa: B007 - of which the last is wanted
            pass
        return x

    def _passed(self, values: Tensor, cond: Condition) -> Iterator[Tensor]:
        """What every block is given, and the head."""
        x = self.heard(values, cond) + self.placed()
        label = self._labelled(cond, len(values))
        if label is not None:
            x = x + label
        turns = self.turns()
        yield x
        for block in self.blocks:
            x = block(x, turns, self.attention)
            yield x

    def _head(self, x: Tensor) -> Tensor:
        return wide(self.head(self.norm(x)))

    def _labelled(self, cond: Condition, n: int) -> Tensor | None:
        """(N, 1, D)."""
        label = labelled(self.label, cond, n)
        return None if label is None else label[:, None]

    def _begun(self, n: int, cond: Condition) -> TokenState:
        """What is kept of n pictures of which nothing is written."""
        placed = self.placed()
        memories = [cast(Block, block).memory(n, len(placed)) for block in self.blocks]
        return TokenState(0, self._labelled(cond, n), placed, self.turns(), memories)

    def _next(self, state: TokenState, x: Tensor) -> Categorical:
        """What the next site may be, whose tokens are told x (N, V, D); ``state`` moves on."""
        places = slice(state.place, state.place + x.shape[1])
        x = x + state.placed[places]
        if state.label is not None:
            x = x + state.label
        for block, memory in zip(self.blocks, state.memories, strict=True):
            x = cast(Block, block).step(x, state.turns[places], memory, places)
        state.place = places.stop
        return Categorical(self._head(x))
