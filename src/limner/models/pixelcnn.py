"""PixelCNN (van den Oord et al. 2016, *Pixel recurrent neural networks*, section 3), with the gates, the two streams
and the classes of its second form (van den Oord et al. 2016, *Conditional image generation with PixelCNN decoders*).

Every value is one of 256, by a softmax, and hears of those before it: of the rows above, of the pixels to its left, and
of its pixel the channels before it. Mask A of the first layer, which keeps a value from hearing itself, is mask B of
values that each lie one later in the order of writing.

Sampling keeps what every layer said of the rows and pixels that the next ones hear: the stream of rows is computed a
row at a time, and a value costs one pixel's products.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Autoregressor, Condition, ImageSpec
from limner.distributions import Categorical
from limner.errors import within
from limner.models.gated import GatedLayer, LayerMemory, Masked
from limner.models.layers import wide, zeroed
from limner.writing import bytes_only, levels_only

#: How far the first layer hears.
_REACH = 3


@dataclass(frozen=True)
class PixelCNNConfig:
    """Shape of the network.

    Attributes:
        width: of either stream, up to a multiple of the channels of a pixel.
        depth: gated layers behind the first.
        reach: how far each of them hears, in rows and columns: 1 is a 3x3 convolution's.
        dropout: probability behind gates.
    """

    kind: Literal["pixelcnn"] = "pixelcnn"
    width: int = 32
    depth: int = 6
    reach: int = 2
    dropout: float = 0.0

    def __post_init__(self) -> None:
        within("net.width", self.width, 1, 4096)
        within("net.depth", self.depth, 1, 256)
        within("net.reach", self.reach, 1, 64)
        within("net.dropout", self.dropout, 0, 0.99)

    def autoregressor(self, spec: ImageSpec, classes: int) -> PixelCNN:
        return PixelCNN(self, spec, classes)


@dataclass
class ValueState:
    """What is kept between values.

    Attributes:
        place: of the next one.
        line: of the row at hand each value, and a one where it is written, behind zeros, (N, 1 + W C, 2).
        layers: what each keeps.
        head: the matrices of the head.
    """

    place: int
    line: Tensor
    layers: list[LayerMemory]
    head: tuple[Tensor, Tensor]

    def index(self, which: Tensor) -> ValueState:
        return replace(self, line=self.line[which], layers=[one.index(which) for one in self.layers])


class PixelCNN(Autoregressor):
    """Values (N, T) of pictures, row by row, a channel's value a site.

    Args:
        config: its shape.
        spec: of the pictures, of 8 bits; no tokens.
        classes: number of labels; 0 makes it unconditional. Label -1 is the null label.
    """

    def __init__(self, config: PixelCNNConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        levels_only("pixelcnn", spec)
        bytes_only("pixelcnn", spec)
        self.size, self.channels, self.levels = spec.size, spec.channels, 2**spec.bits
        each = -(-config.width // spec.channels)

        def layer(into: int, reach: int) -> GatedLayer:
            return GatedLayer(spec.channels, into, each, reach, classes, config.dropout)

        self.layers = nn.ModuleList([layer(2, _REACH), *(layer(each, config.reach) for _ in range(config.depth))])
        self.mix = Masked(spec.channels, 0, each, each)
        self.head = Masked(spec.channels, 0, each, self.levels)
        zeroed(self.head)

    @property
    def sites(self) -> tuple[int, ...]:
        return (1,) * (self.size[0] * self.size[1] * self.channels)

    def log_prob(self, values: Tensor, cond: Condition) -> Tensor:
        said = self.said(values, cond).flatten(0, 1)
        return -F.cross_entropy(said, values.flatten(), reduction="none").reshape(values.shape)

    def said(self, values: Tensor, cond: Condition) -> Tensor:
        """Logits (N, T, K) of every value, given those before it."""
        x = self._seen(values).reshape(len(values), self.size[0], -1)
        shape = (len(values), *self.size, -1)
        rows = F.pad(x, (0, 0, 1, -1)).reshape(shape)  # one down
        pixels = F.pad(x, (2, -2)).reshape(shape)  # one value on
        for layer in self.layers:
            rows, pixels = layer(rows, pixels, cond)
        return wide(self.head(F.relu(self.mix(F.relu(pixels))))).reshape(*values.shape, self.levels)

    def _seen(self, values: Tensor) -> Tensor:
        """(N, T, 2): each value in [-1, 1], and a one, which what lies outside the picture has not."""
        x = values.to(self.head.weight.dtype) * (2 / (self.levels - 1)) - 1
        return torch.stack([x, torch.ones_like(x)], dim=-1)

    def init_state(self, n: int, cond: Condition) -> tuple[ValueState, Categorical]:
        width = self.size[1]
        line = self.head.weight.new_zeros(n, 1 + width * self.channels, 2)
        layers = [layer.memory(n, width, cond) for layer in self.layers if isinstance(layer, GatedLayer)]
        state = ValueState(0, line, layers, (self.mix.matrix(), self.head.matrix()))
        return state, self._next(state)

    def step(self, value: Tensor, state: ValueState) -> tuple[ValueState, Categorical]:
        """The value (N, 1) is written; ``state`` itself moves on."""
        state.line[:, 1 + state.place % (self.size[1] * self.channels)] = self._seen(value)[:, 0]
        state.place += 1
        return state, self._next(state)

    def _next(self, state: ValueState) -> Categorical:
        column, channel = divmod(state.place % (self.size[1] * self.channels), self.channels)
        if column == channel == 0:
            self._begin(state)
        first = column * self.channels
        x = state.line[:, first : first + self.channels].flatten(1)
        for layer, memory in zip(self.layers, state.layers, strict=True):
            assert isinstance(layer, GatedLayer)
            x = layer.pixel(memory, column, x)
        x = F.relu(torch.addmm(self.mix.bias, F.relu(x), state.head[0]))
        which = slice(channel * self.levels, (channel + 1) * self.levels)
        return Categorical(torch.addmm(self.head.bias[which], x, state.head[1][:, which])[:, None])

    def _begin(self, state: ValueState) -> None:
        """A row: what is written of the one above is heard, and of its own there is nothing yet."""
        row = state.line[:, 1:].reshape(len(state.line), self.size[1], -1)
        state.line = torch.zeros_like(state.line)
        for layer, memory in zip(self.layers, state.layers, strict=True):
            assert isinstance(layer, GatedLayer)
            row = layer.begin(memory, row)
