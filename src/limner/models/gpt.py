"""ImageGPT (Chen et al. 2020, *Generative pretraining from pixels*): a causal transformer over values in raster order;
over tokens of a codec as in Esser et al. 2021, *Taming transformers for high-resolution image synthesis*."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from limner.contracts import Condition, ImageSpec
from limner.distributions import Categorical
from limner.errors import UserError
from limner.models.attention import attend
from limner.models.dit import rotary
from limner.models.transformer import TokenState, TransformerConfig, WritingTransformer
from limner.writing import bytes_only


@dataclass(frozen=True)
class GPTConfig(TransformerConfig):
    """Shape of a causal transformer."""

    kind: Literal["gpt"] = "gpt"

    def autoregressor(self, spec: ImageSpec, classes: int) -> GPT:
        return GPT(self, spec, classes)


class GPT(WritingTransformer):
    """Values (N, T) of pictures, row by row, a channel's value or a token a site.

    Args:
        config: its shape.
        spec: of the pictures, of 8 bits, or of one map of tokens.
        classes: number of labels; 0 makes it unconditional. Label -1 is the null label.
    """

    def __init__(self, config: TransformerConfig, spec: ImageSpec, classes: int) -> None:
        bytes_only("imagegpt", spec)
        if spec.scales:
            raise UserError(
                f"this recipe writes one map of tokens, and the codec makes {len(spec.scales)}: train var on it, or a "
                "vq-codec without --net.scales"
            )
        super().__init__(config, spec.levels, classes)
        (height, width), channels, dim = spec.size, spec.channels, config.width
        self.size, self.channels = spec.size, channels
        self.start = nn.Parameter(0.02 * torch.randn(dim))
        self.rows, self.columns = nn.Embedding(height, dim), nn.Embedding(width, dim)
        self.kinds = nn.Embedding(channels, dim) if channels > 1 else None
        for embedding in (self.rows, self.columns, self.kinds):
            if embedding is not None:
                nn.init.normal_(embedding.weight, std=0.02)

    @property
    def sites(self) -> tuple[int, ...]:
        return (1,) * (self.size[0] * self.size[1] * self.channels)

    def log_prob(self, values: Tensor, cond: Condition) -> Tensor:
        return self.nats(values, cond)

    def attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attend(query, key, value, causal=True)

    def told(self, values: Tensor) -> Tensor:
        return torch.cat([self.start.expand(len(values), 1, -1), self.embed(values[:, :-1])], dim=1)

    def placed(self) -> Tensor:
        kinds = 0 if self.kinds is None else self.kinds.weight
        return (self.rows.weight[:, None, None] + self.columns.weight[:, None] + kinds).flatten(0, 2)

    def turns(self) -> Tensor:
        turns = rotary(*self.size, self.dim // self.heads, self.start.device)
        return turns.repeat_interleave(self.channels, dim=0)[:, None, None]

    def init_state(self, n: int, cond: Condition) -> tuple[TokenState, Categorical]:
        state = self._begun(n, cond)
        return state, self._next(state, self.start.expand(n, 1, -1))

    def step(self, value: Tensor, state: TokenState) -> tuple[TokenState, Categorical]:
        """The value (N, 1) is written; ``state`` itself moves on."""
        return state, self._next(state, self.embed(value))
