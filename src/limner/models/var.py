"""VAR (Tian et al. 2024, *Visual autoregressive modeling: scalable image generation via next-scale prediction*): all
tokens of a scale at once, each told what the scales before it make of its place."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor, nn

from limner.contracts import Condition, ImageSpec
from limner.distributions import Categorical
from limner.errors import UserError
from limner.models.attention import attend
from limner.models.dit import turned
from limner.models.layers import wide
from limner.models.scales import mixing
from limner.models.transformer import TokenState, TransformerConfig, WritingTransformer


@dataclass(frozen=True)
class VARConfig(TransformerConfig):
    """Shape of a transformer that writes scale by scale."""

    kind: Literal["var"] = "var"

    def autoregressor(self, spec: ImageSpec, classes: int) -> VAR:
        return VAR(self, spec, classes)


@dataclass
class ScaleState:
    """What is kept between scales: what every token keeps, and what was written, embedded, of all scales but the last,
    (N, T, D)."""

    tokens: TokenState
    written: Tensor

    def index(self, which: Tensor) -> ScaleState:
        return ScaleState(self.tokens.index(which), self.written[which])


class VAR(WritingTransformer):
    """Tokens (N, T) of maps from coarse to fine, a map a site.

    What a token hears of the scales before it is their sum as the codec makes it, of embeddings instead of codes:
    brought up to the finest map and down to its own.

    Args:
        config: its shape.
        spec: of tokens of several scales.
        classes: number of labels; 0 makes it unconditional. Label -1 is the null label.
    """

    def __init__(self, config: VARConfig, spec: ImageSpec, classes: int) -> None:
        if not spec.scales:
            raise UserError(
                "var writes scale by scale, and the codec has one map of tokens: train one of several with: limner "
                f"train vq-codec --net.scales 1 2 ... {max(spec.size)}"
            )
        super().__init__(config, spec.levels, classes)
        self.scales = spec.scales
        self.place = nn.Parameter(0.02 * torch.randn(spec.values, config.width))
        self.mixing: Tensor
        self.register_buffer("mixing", mixing(spec.scales), persistent=False)

    @property
    def sites(self) -> tuple[int, ...]:
        return tuple(height * width for height, width in self.scales)

    def log_prob(self, values: Tensor, cond: Condition) -> Tensor:
        nats = torch.split(self.nats(values, cond), list(self.sites), dim=1)
        return torch.stack([site.sum(1) for site in nats], dim=1)

    def attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heard = [
            attend(query[:, :, end - count : end], key[:, :, :end], value[:, :, :end])
            for end, count in zip(accumulate(self.sites), self.sites, strict=True)
        ]
        return torch.cat(heard, dim=2)

    def told(self, values: Tensor) -> Tensor:
        return wide(self.mixing @ self.embed(values))

    def placed(self) -> Tensor:
        return self.place

    def turns(self) -> Tensor:
        """By where the middle of a token lies on the finest map."""
        places = []
        for height, width in self.scales:
            rows, columns = (
                (torch.arange(count, device=self.place.device) + 0.5) * finest / count - 0.5
                for count, finest in zip((height, width), self.scales[-1], strict=True)
            )
            places.append(torch.cartesian_prod(rows, columns))
        down, across = torch.cat(places).unbind(1)
        return turned(down, across, self.dim // self.heads)[:, None, None]

    def init_state(self, n: int, cond: Condition) -> tuple[ScaleState, Categorical]:
        # The last scale tells no other one, and the first is told of none.
        written = self.embed.weight.new_zeros(n, sum(self.sites[:-1]), self.dim)
        state = ScaleState(self._begun(n, cond), written)
        return state, self._next(state.tokens, written.new_zeros(n, self.sites[0], self.dim))

    def step(self, value: Tensor, state: ScaleState) -> tuple[ScaleState, Categorical]:
        """The values (N, V) of a scale are written; ``state`` itself moves on."""
        end = state.tokens.place
        state.written[:, end - value.shape[1] : end] = self.embed(value)
        count = next(count for stop, count in zip(accumulate(self.sites), self.sites, strict=True) if stop > end)
        told = self.mixing[end : end + count, :end] @ state.written[:, :end]
        return state, self._next(state.tokens, wide(told))
