"""Gated causal layers of two streams (van den Oord et al. 2016, *Conditional image generation with PixelCNN decoders*,
section 2 and figure 2): one has seen the rows above a pixel, the other also the pixels before it in its row. Where one
masked convolution would be deaf to a wedge of pixels above and to the right, the two together hear all before.

Of the second stream the features of a pixel are those of its channels, one after the other, (N, H, W, C F), and masks
keep each channel's from hearing those of later ones. What is masked is the pixel alone: rows above and pixels to the
left are known with all their channels. Each layer works on whole maps, and again row by row and pixel by pixel from
what it keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Condition
from limner.models.causal import windows
from limner.models.embedding import labelled
from limner.models.layers import Pointwise, pointwise, wide


class Masked(Pointwise):
    """Products of a pixel's features of which those for a channel hear its channels up to that one (mask B).

    Args:
        channels: C of a pixel.
        known: features that all channels hear, before the masked ones.
        into, out: features for each channel.
        parts: how many times so many features come out, (N, H, W, parts C out).
    """

    mask: Tensor

    def __init__(self, channels: int, known: int, into: int, out: int, parts: int = 1) -> None:
        super().__init__(known + channels * into, parts * channels * out)
        heard = torch.cat([torch.zeros(known, dtype=torch.int64), torch.arange(channels * into) // into])
        hears = torch.arange(self.out_features) // out % channels
        self.register_buffer("mask", (heard <= hears[:, None]).to(self.weight.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.weight * self.mask, self.bias)

    def matrix(self) -> Tensor:
        """(into, out), masked."""
        return (self.weight * self.mask).t()


def gate(x: Tensor) -> Tensor:
    """tanh of the first half of features, as far as the second lets it through."""
    value, through = x.chunk(2, dim=-1)
    return torch.tanh(value) * torch.sigmoid(through)


@dataclass
class LayerMemory:
    """What a layer keeps.

    Attributes:
        rows: the rows of the stream of rows that the next one hears, between zeros, (N, 1 + reach, W + 2 reach, D).
        row: the other stream's row as it is made, behind zeros, (N, reach + W, D).
        told: what each of its pixels hears of the stream of rows and of the class, (N, 2 D).
        before: the matrix by which a pixel hears those before and itself, ...
        out: ... and that behind the gate.
        label: what the class tells each stream, (N, 2 D).
    """

    rows: Tensor
    row: Tensor
    told: tuple[Tensor, ...]
    before: Tensor
    out: Tensor
    label: tuple[Tensor, Tensor] | None

    def __post_init__(self) -> None:
        # Views of all pixels, and of each with those before it: to make one takes as long as a sum.
        reach = self.rows.shape[1] - 1
        self.own, self.near = self.row[:, reach:].unbind(1), windows(self.row, reach + 1)

    def index(self, which: Tensor) -> LayerMemory:
        return replace(
            self,
            rows=self.rows[which],
            row=self.row[which],
            told=tuple(one[which] for one in self.told),
            label=None if self.label is None else (self.label[0][which], self.label[1][which]),
        )


class GatedLayer(nn.Module):
    """Both streams, (N, H, W, C into) to (N, H, W, C out) each, around which they pass where they stay as wide.

    Args:
        channels: C of a pixel.
        into, out: features for each channel.
        reach: how far it hears: rows above, columns to either side there, and pixels before.
        classes: number of labels; 0 makes it unconditional.
        dropout: probability behind the gate of the second stream.
    """

    def __init__(self, channels: int, into: int, out: int, reach: int, classes: int, dropout: float) -> None:
        super().__init__()
        wide_in, wide_out = channels * into, channels * out
        self.reach, self.around = reach, into == out
        self.above = nn.Conv2d(wide_in, 2 * wide_out, (1 + reach, 1 + 2 * reach))
        self.link = Pointwise(wide_out, 2 * wide_out, bias=False)
        self.before = Masked(channels, reach * wide_in, into, out, parts=2)
        self.out = Masked(channels, 0, out, out)
        self.label = nn.Embedding(classes + 1, 4 * wide_out) if classes else None
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, rows: Tensor, pixels: Tensor, cond: Condition) -> tuple[Tensor, Tensor]:
        reach, width, label = self.reach, pixels.shape[2], self._labels(cond, len(pixels))
        rows = self._rows(F.pad(rows, (0, 0, reach, reach, reach, 0)), label)
        behind = F.pad(pixels, (0, 0, reach, 0))
        heard = torch.cat([behind[:, :, at : at + width] for at in range(reach + 1)], dim=-1)
        told = self._linked(rows, label)
        return rows, self._added(pixels, self.out(self.dropout(gate(self.before(heard) + told))))

    def _labels(self, cond: Condition, n: int) -> tuple[Tensor, Tensor] | None:
        """(N, 2 D) for each stream."""
        label = labelled(self.label, cond, n)
        return None if label is None else label.tensor_split(2, dim=1)  # type: ignore[return-value]

    def _rows(self, x: Tensor, label: tuple[Tensor, Tensor] | None) -> Tensor:
        """The stream of rows, of maps between ``reach`` zeros at both sides and ``reach`` rows more above."""
        h: Tensor = self.above(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if label is not None:
            h = h + label[0][:, None, None]
        return self._added(x[:, self.reach :, self.reach : x.shape[2] - self.reach], gate(h))

    def _linked(self, rows: Tensor, label: tuple[Tensor, Tensor] | None) -> Tensor:
        """What the other stream is told, (N, H, W, 2 D)."""
        told: Tensor = self.link(rows)
        return told if label is None else told + label[1][:, None, None]

    def _added(self, x: Tensor, more: Tensor) -> Tensor:
        return x + wide(more) if self.around else wide(more)

    def memory(self, n: int, width: int, cond: Condition) -> LayerMemory:
        """Of n pictures of which nothing is written, with rows of so many pixels."""
        reach, features = self.reach, self.above.in_channels
        return LayerMemory(
            rows=self.above.weight.new_zeros(n, 1 + reach, width + 2 * reach, features),
            row=self.above.weight.new_zeros(n, reach + width, features),
            told=(),
            before=self.before.matrix(),
            out=self.out.matrix(),
            label=self._labels(cond, n),
        )

    def begin(self, memory: LayerMemory, row: Tensor) -> Tensor:
        """The next row of the stream of rows, (N, W, D), and what the pixels of that row will hear."""
        own = F.pad(row, (0, 0, self.reach, self.reach))
        memory.rows = torch.cat([memory.rows[:, 1:], own[:, None]], dim=1)
        rows = self._rows(memory.rows, memory.label)
        memory.told = (self._linked(rows, memory.label) + self.before.bias)[:, 0].unbind(1)
        return rows[:, 0]

    def pixel(self, memory: LayerMemory, column: int, x: Tensor) -> Tensor:
        """A pixel of the other stream, (N, D)."""
        memory.own[column].copy_(x)
        heard = torch.addmm(memory.told[column], memory.near[column], memory.before)
        return self._added(x, torch.addmm(self.out.bias, gate(heard), memory.out))
