"""PixelCNN++ (Salimans et al. 2017): two streams of causal convolutions, one that sees the rows above a pixel and one
that sees all before it in its own row too, over three sizes of maps, to a mixture of logistic distributions.

Convolutions are of each channel by itself, with products across channels between them, and rows and columns lie two
apart on the way down, as published, so that far pixels are heard in few layers. Maps are (N, H, W, C).

Sampling keeps every layer's activations (Ramachandran et al. 2017, *Fast generation for convolutional autoregressive
models*): the stream of rows is computed a row at a time, and so is what a pixel hears of the row above it; a pixel
itself costs what is new of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Autoregressor, Condition, ImageSpec
from limner.errors import within
from limner.models.causal_stage import Stage, StageMemory
from limner.models.critic import doubled
from limner.models.layers import Pointwise
from limner.models.logistic_mixture import LogisticMixture, parameters
from limner.writing import levels_only

#: How far the first layers see: rows above a pixel, columns to either side there, and pixels before it.
_REACH = 3


@dataclass(frozen=True)
class PixelCNNPPConfig:
    """Shape of the network.

    Attributes:
        width: channels of the largest maps.
        most: channels of any map, at most: they double with each halving.
        blocks: gated blocks of each size of maps, on the way down and again on the way up.
        sizes: of maps, each half the one before.
        components: of a pixel's mixture.
        dropout: probability inside blocks.
    """

    kind: Literal["pixelcnn++"] = "pixelcnn++"
    width: int = 32
    most: int = 64
    blocks: int = 2
    sizes: int = 3
    components: int = 10
    dropout: float = 0.0

    def __post_init__(self) -> None:
        within("net.width", self.width, 1, 4096)
        within("net.most", self.most, 1, 16384)
        within("net.blocks", self.blocks, 1, 64)
        within("net.sizes", self.sizes, 1, 8)
        within("net.components", self.components, 1, 1000)
        within("net.dropout", self.dropout, 0, 0.99)

    def autoregressor(self, spec: ImageSpec, classes: int) -> PixelCNNPP:
        return PixelCNNPP(self, spec, classes)


@dataclass
class PixelState:
    """What is kept between pixels: the place of the next, the picture as the network sees it, maps of every stage."""

    place: int
    seen: Tensor
    kept: StageMemory

    def index(self, which: Tensor) -> PixelState:
        return PixelState(self.place, self.seen[which], self.kept.index(which))


class PixelCNNPP(Autoregressor):
    """Pictures (N, C, H, W) of whole numbers, a pixel a site.

    Args:
        config: its shape.
        spec: of the pictures; no tokens.
        classes: number of labels; 0 makes it unconditional. Label -1 is the null label.
    """

    def __init__(self, config: PixelCNNPPConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        levels_only("pixelcnn++", spec)
        self.channels, self.size, self.levels = spec.channels, spec.size, 2**spec.bits
        sizes = min(config.sizes, max(1, min(spec.size).bit_length() - 1))
        self.stride = 2 ** (sizes - 1)
        self.padded = tuple(-(-side // self.stride) * self.stride for side in spec.size)
        widths = doubled(config.width, config.most, sizes)
        seen = spec.channels + 1
        self.above = Pointwise(_REACH * (2 * _REACH + 1) * seen, widths[0])
        self.before = Pointwise(_REACH * seen, widths[0])

        self.stage = Stage(widths, config.blocks, classes, config.dropout)
        self.norm = nn.LayerNorm(widths[0])
        self.head = _begun(Pointwise(widths[0], parameters(spec.channels, config.components)), spec.channels)

    @property
    def sites(self) -> tuple[int, ...]:
        return (self.channels,) * math.prod(self.size)

    def log_prob(self, values: Tensor, cond: Condition) -> Tensor:
        """(N, S) nats of values (N, T): whole numbers in the order of writing."""
        x = values.reshape(len(values), *self.size, self.channels)
        return LogisticMixture(self.said(x, cond), self.channels, self.levels).log_prob(x).flatten(1)

    def said(self, values: Tensor, cond: Condition) -> Tensor:
        """Parameters (N, H, W, P) of every pixel's mixture, given the values (N, H, W, C) before it."""
        x = self._seen(values)
        _, pixels = self.stage(self._rows_above(x), self._pixels_before(x), cond)
        return self._head(pixels[:, : self.size[0], : self.size[1]])

    def _head(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.silu(self.norm(x)))
        return out

    def _seen(self, values: Tensor) -> Tensor:
        """(N, H, W, C + 1) in [-1, 1], with a one where the picture is, up to multiples of the stride."""
        x = values.to(self.norm.weight.dtype) * (2 / (self.levels - 1)) - 1
        down, right = (a - b for a, b in zip(self.padded, self.size, strict=True))
        return F.pad(torch.cat([x, torch.ones_like(x[..., :1])], dim=-1), (0, 0, 0, right, 0, down))

    def _rows_above(self, x: Tensor) -> Tensor:
        return self._from_above(F.pad(x, (0, 0, _REACH, _REACH, _REACH, 0)))

    def _from_above(self, x: Tensor) -> Tensor:
        """Rows (N, H, W, C) of what is seen, whose edges are as wide as the reach."""
        height, width = x.shape[1] - _REACH, self.padded[1]
        shifted = [x[:, i : i + height, j : j + width] for i in range(_REACH) for j in range(2 * _REACH + 1)]
        out: Tensor = self.above(torch.cat(shifted, dim=-1))
        return out

    def _pixels_before(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, _REACH, 0))
        out: Tensor = self.before(torch.cat([x[:, :, j : j + self.padded[1]] for j in range(_REACH)], dim=-1))
        return out

    def init_state(self, n: int, cond: Condition) -> tuple[PixelState, LogisticMixture]:
        one = self.norm.weight.new_zeros(())
        seen = one.expand(n, _REACH + self.padded[0], _REACH + self.padded[1] + _REACH, self.channels + 1).clone()
        state = PixelState(0, seen, self.stage.memory(n, self.padded[1], cond))
        return state, self._next(state)

    def step(self, value: Tensor, state: PixelState) -> tuple[PixelState, LogisticMixture]:
        """The pixel's value (N, C) is written; ``state`` itself moves on."""
        row, column = divmod(state.place, self.size[1])
        seen = state.seen[:, row + _REACH, column + _REACH]
        seen[:, :-1] = value.to(seen.dtype) * (2 / (self.levels - 1)) - 1
        seen[:, -1] = 1
        state.place += 1
        if column + 1 == self.size[1]:
            for beyond in range(self.size[1], self.padded[1]):
                self._pixel(state, row, beyond)
        return state, self._next(state)

    def _next(self, state: PixelState) -> LogisticMixture:
        row, column = divmod(state.place, self.size[1])
        if column == 0:
            self.stage.begin(state.kept, row, self._from_above(state.seen[:, row : row + _REACH + 1])[:, 0])
        return LogisticMixture(self._head(self._pixel(state, row, column)), self.channels, self.levels)

    def _pixel(self, state: PixelState, row: int, column: int) -> Tensor:
        before = state.seen[:, row + _REACH, column : column + _REACH].flatten(1)
        return self.stage.pixel(state.kept, row, column, self.before(before))


def _begun(head: nn.Linear, channels: int) -> nn.Linear:
    """Components that begin side by side over all values: alike, they would stay alike."""
    with torch.no_grad():
        parts = head.bias.zero_().reshape(-1, parameters(channels, 1))
        parts[:, 1 : 1 + channels] = torch.linspace(-1, 1, len(parts))[:, None]
        parts[:, 1 + channels : 1 + 2 * channels] = -math.log(max(1, len(parts) / 2))
    return head
