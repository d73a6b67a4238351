"""ImageGPT (Chen et al. 2020, *Generative pretraining from pixels*): a causal transformer over values in raster order.

With the parts that later work settled on, as in ``dit``: rotary positions over rows and columns (Su et al. 2021) beside
learned ones, RMS norms, also of queries and keys, and SwiGLU (Shazeer 2020). Sampling keeps keys and values of all
sites before, so that a site costs one token's products.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Autoregressor, Condition, ImageSpec
from limner.distributions import Categorical
from limner.errors import UserError, within
from limner.models.dit import rotary
from limner.models.fused import normed_and_turned
from limner.models.layers import Pointwise, attend, narrow, silu, to_multiple, wide, zeroed


@dataclass(frozen=True)
class GPTConfig:
    """Shape of a causal transformer.

    Attributes:
        width: of a token; a multiple of 4 x heads.
        depth: blocks.
        heads: of attention.
        dropout: probability after attention and after the two-layer network.
    """

    kind: Literal["gpt"] = "gpt"
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

    def autoregressor(self, spec: ImageSpec, classes: int) -> GPT:
        return GPT(self, spec, classes)


@dataclass
class Memory:
    """Keys and values of a block's sites so far, (N, heads, T, D) each, of which the first ones are written."""

    keys: Tensor
    values: Tensor

    def index(self, which: Tensor) -> Memory:
        return Memory(self.keys[which], self.values[which])


class Block(nn.Module):
    """Causal attention and SwiGLU, each behind a norm, around which x passes."""

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

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        """All sites side by side, (N, T, D)."""
        query, key, value = self._heard(x, turns)
        return self._added(x, attend(query, key, value, causal=True))

    def step(self, x: Tensor, turns: Tensor, memory: Memory, place: int) -> Tensor:
        """The next site, (N, 1, D)."""
        query, key, value = self._heard(x, turns)
        memory.keys[:, :, place], memory.values[:, :, place] = key[:, :, 0], value[:, :, 0]
        return self._added(x, attend(query, memory.keys[:, :, : place + 1], memory.values[:, :, : place + 1]))

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
        place: of the next one.
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


class GPT(Autoregressor):
    """Values (N, T) of pictures, row by row, a channel's value or a token a site.

    Args:
        config: its shape.
        spec: of the pictures, of 8 bits, or of tokens.
        classes: number of labels; 0 makes it unconditional. Label -1 is the null label.
    """

    def __init__(self, config: GPTConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        if spec.bits != 8:
            raise UserError(f"imagegpt writes values of 8 bits, and these have {spec.bits}; train pixelcnn++ on them")
        (height, width), channels, dim = spec.size, spec.channels, config.width
        self.size, self.channels, self.heads, self.dim = spec.size, channels, config.heads, dim
        self.start = nn.Parameter(0.02 * torch.randn(dim))
        self.embed = nn.Embedding(spec.levels, dim)
        self.rows, self.columns = nn.Embedding(height, dim), nn.Embedding(width, dim)
        self.kinds = nn.Embedding(channels, dim) if channels > 1 else None
        self.label = nn.Embedding(classes + 1, dim) if classes else None
        for embedding in (self.embed, self.rows, self.columns, self.kinds, self.label):
            if embedding is not None:
                nn.init.normal_(embedding.weight, std=0.02 if embedding is not self.embed else 0.1)
        self.blocks = nn.ModuleList(Block(dim, config.heads, config.dropout) for _ in range(config.depth))
        self.norm = nn.RMSNorm(dim)
        self.head = zeroed(Pointwise(dim, spec.levels))

    @property
    def sites(self) -> tuple[int, ...]:
        return (1,) * (self.size[0] * self.size[1] * self.channels)

    def log_prob(self, values: Tensor, cond: Condition) -> Tensor:
        return -F.cross_entropy(self.said(values, cond).transpose(1, 2), values, reduction="none")

    def said(self, values: Tensor, cond: Condition) -> Tensor:
        """Logits (N, T, K) of every value, given those before it."""
        before = self.embed(values[:, :-1])
        x = torch.cat([self.start.expand(len(values), 1, -1), before], dim=1) + self._placed()
        label = self._labelled(cond, len(values))
        if label is not None:
            x = x + label
        turns = self._turns()
        for block in self.blocks:
            x = block(x, turns)
        return self._head(x)

    def _head(self, x: Tensor) -> Tensor:
        return wide(self.head(narrow(self.norm(x))))

    def _placed(self) -> Tensor:
        """(T, D)."""
        kinds = 0 if self.kinds is None else self.kinds.weight
        return (self.rows.weight[:, None, None] + self.columns.weight[:, None] + kinds).flatten(0, 2)

    def _turns(self) -> Tensor:
        """(T, 1, 1, D / 2)."""
        turns = rotary(*self.size, self.dim // self.heads, self.start.device)
        return turns.repeat_interleave(self.channels, dim=0)[:, None, None]

    def _labelled(self, cond: Condition, n: int) -> Tensor | None:
        """(N, 1, D)."""
        if self.label is None:
            return None
        null = torch.zeros(n, dtype=torch.int64, device=self.start.device)
        label: Tensor = self.label(null if cond.label is None else cond.label + 1)
        return label[:, None]

    def init_state(self, n: int, cond: Condition) -> tuple[TokenState, Categorical]:
        shape = (n, self.heads, len(self.sites), self.dim // self.heads)
        memories = [Memory(*(self.start.new_empty(shape) for _ in range(2))) for _ in self.blocks]
        state = TokenState(0, self._labelled(cond, n), self._placed(), self._turns(), memories)
        return state, self._next(state, self.start.expand(n, 1, -1))

    def step(self, value: Tensor, state: TokenState) -> tuple[TokenState, Categorical]:
        """The value (N, 1) is written; ``state`` itself moves on."""
        state.place += 1
        return state, self._next(state, self.embed(value))

    def _next(self, state: TokenState, x: Tensor) -> Categorical:
        place = state.place
        x = x + state.placed[place]
        if state.label is not None:
            x = x + state.label
        turns = state.turns[place : place + 1]
        for block, memory in zip(self.blocks, state.memories, strict=True):
            assert isinstance(block, Block)
            x = block.step(x, turns, memory, place)
        return Categorical(self._head(x))
