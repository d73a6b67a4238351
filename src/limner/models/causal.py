"""What causal networks are made of whose maps are (N, H, W, C): neighbours above a pixel and before it in its row, each
channel by itself, and products across channels. Each part works on whole maps, and again row by row or pixel by pixel
from what it keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Condition
from limner.models.embedding import labelled
from limner.models.layers import Pointwise, zeroed

#: Of the stream of rows: three above, and left, own and right; of the other: three above, and left and own.
ROWS, PIXELS = 6, 5


class Near(nn.Module):
    """Each channel of a pixel's neighbours: (N, H, W, C) to the same."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(taps, channels) / math.sqrt(taps))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.channels, self.empty = channels, 9 - taps

    def forward(self, x: Tensor) -> Tensor:
        kernel = F.pad(self.weight, (0, 0, 0, self.empty)).t().reshape(-1, 1, 3, 3)
        x = x.permute(0, 3, 1, 2)
        return F.conv2d(x, kernel, self.bias, padding=1, groups=self.channels).permute(0, 2, 3, 1)

    def row(self, above: Tensor, own: Tensor) -> Tensor:
        """A whole row of the stream of rows, (N, W, C), of two behind and before a pixel of zeros, (N, W + 2, C)."""
        return _taps(own, self.weight[3:], self.above(above))

    def above(self, row: Tensor) -> Tensor:
        """What a row (N, W, C) is told by the one above it, behind and before a pixel of zeros, (N, W + 2, C)."""
        return _taps(row, self.weight[:3], self.bias)

    def before(self, mix: nn.Linear) -> Tensor:
        """The matrix (2 C, out) by which the left pixel and the own one, side by side, are heard behind ``mix``."""
        return torch.cat([self.weight[tap, :, None] * mix.weight.t() for tap in (3, 4)])


def _taps(row: Tensor, weight: Tensor, told: Tensor) -> Tensor:
    """``told``, and what three neighbours in a row (N, W + 2, C) add to it."""
    for tap, one in enumerate(weight):
        told = torch.addcmul(told, row[:, tap : row.shape[1] - 2 + tap], one)
    return told


@dataclass
class RowMemory:
    """What a block of the stream of rows keeps: the row before, as its two layers of neighbours hear it, behind and
    before a pixel of zeros, (N, W + 2, C), and what the class tells, (N, C)."""

    first: Tensor
    second: Tensor
    label: Tensor | None

    def index(self, which: Tensor) -> RowMemory:
        return RowMemory(self.first[which], self.second[which], None if self.label is None else self.label[which])


@dataclass
class PixelMemory:
    """What a block of the other stream keeps.

    Attributes:
        first, second: the row as it is made, as its two layers of neighbours hear it, behind and before a pixel of
            zeros, (N, W + 2, C).
        heard0, heard1: what each pixel hears of the row above and of the other stream, (N, C) and (N, 2 C).
        before0, before1: matrices by which a pixel hears the one before and itself.
        skip: the matrix by which it hears what was said of it on the way in.
        label: what the class tells, (N, C).
    """

    first: Tensor
    second: Tensor
    heard0: tuple[Tensor, ...]
    heard1: tuple[Tensor, ...]
    before0: Tensor
    before1: Tensor
    skip: Tensor | None
    label: Tensor | None

    def __post_init__(self) -> None:
        # Views of all pixels, and of all pairs of a pixel and the one before it: to make one takes as long as a sum.
        self.own0, self.own1 = (row[:, 1:].unbind(1) for row in (self.first, self.second))
        self.pairs0, self.pairs1 = (windows(row, 2) for row in (self.first, self.second))

    def index(self, which: Tensor) -> PixelMemory:
        return replace(
            self,
            first=self.first[which],
            second=self.second[which],
            heard0=tuple(one[which] for one in self.heard0),
            heard1=tuple(one[which] for one in self.heard1),
            label=None if self.label is None else self.label[which],
        )


def windows(row: Tensor, length: int) -> tuple[Tensor, ...]:
    """So many neighbours together, (N, length C), of each place of a row (N, W, C) that has as many: W - length + 1."""
    n, width, channels = row.shape
    shape = (width - length + 1, n, length * channels)
    return row.as_strided(shape, (channels, width * channels, 1)).unbind(0)


class Block(nn.Module):
    """Norm, two layers of neighbours and products, and a gate, around which x passes (Salimans et al. 2017, section
    2.3 and figure 2).

    Args:
        channels: of the maps.
        taps: of the layers of neighbours, ``ROWS`` or ``PIXELS``.
        heard: how many other maps of as many channels the first layer hears of.
        classes: number of labels; 0 makes it unconditional.
        dropout: probability between both layers.
    """

    def __init__(self, channels: int, taps: int, heard: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.channels = channels
        self.norm = nn.LayerNorm(channels)
        self.near0, self.near1 = Near(channels, taps), Near(channels, taps)
        self.mix0 = Pointwise(channels, channels)
        self.mix1 = zeroed(Pointwise(channels, 2 * channels))
        self.hear = nn.ModuleList(Pointwise(channels, channels, bias=False) for _ in range(heard))
        self.label = nn.Embedding(classes + 1, channels) if classes else None
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor, *heard: Tensor, cond: Condition) -> Tensor:
        h = self._told(self.mix0(self.near0(self.norm(x))), heard, labelled(self.label, cond, len(x)))
        return x + F.glu(self.mix1(self.near1(self.dropout(F.silu(h)))), dim=-1)

    def _told(self, h: Tensor, heard: tuple[Tensor, ...], label: Tensor | None) -> Tensor:
        for hear, one in zip(self.hear, heard, strict=True):
            h = h + hear(one)
        return h if label is None else h + label.reshape(len(h), *[1] * (h.ndim - 2), -1)

    def row_memory(self, n: int, width: int, cond: Condition) -> RowMemory:
        empty = self.norm.weight.new_zeros(n, width + 2, self.channels)
        return RowMemory(empty, empty, labelled(self.label, cond, n))

    def row(self, memory: RowMemory, x: Tensor, *heard: Tensor) -> Tensor:
        """The next row of the stream of rows, (N, W, C)."""
        a = _between_zeros(self.norm(x))
        h = F.silu(self._told(self.mix0(self.near0.row(memory.first, a)), heard, memory.label))
        memory.first, above, memory.second = a, memory.second, _between_zeros(h)
        return x + F.glu(self.mix1(self.near1.row(above, memory.second)), dim=-1)

    def pixel_memory(self, n: int, width: int, cond: Condition) -> PixelMemory:
        return PixelMemory(
            first=self.norm.weight.new_zeros(n, width + 2, self.channels),
            second=self.norm.weight.new_zeros(n, width + 2, self.channels),
            heard0=(),
            heard1=(),
            before0=self.near0.before(self.mix0),
            before1=self.near1.before(self.mix1),
            skip=next((one.weight.t() for one in self.hear[1:] if isinstance(one, nn.Linear)), None),
            label=labelled(self.label, cond, n),
        )

    def begin(self, memory: PixelMemory, rows: Tensor) -> None:
        """Before the first pixel of a row: what all of them hear of the row above and of the stream of rows."""
        told = self.mix0(self.near0.above(memory.first)) + self.hear[0](rows)
        memory.heard0 = (told if memory.label is None else told + memory.label[:, None]).unbind(1)
        memory.heard1 = self.mix1(self.near1.above(memory.second)).unbind(1)

    def pixel(self, memory: PixelMemory, column: int, x: Tensor, skip: Tensor | None) -> Tensor:
        """The next pixel of a row, (N, C)."""
        memory.own0[column].copy_(self.norm(x))
        h = torch.addmm(memory.heard0[column], memory.pairs0[column], memory.before0)
        if memory.skip is not None and skip is not None:
            h = torch.addmm(h, skip, memory.skip)
        memory.own1[column].copy_(F.silu(h, inplace=True))
        return x + F.glu(torch.addmm(memory.heard1[column], memory.pairs1[column], memory.before1), dim=-1)


def _between_zeros(row: Tensor) -> Tensor:
    return F.pad(row, (0, 0, 1, 1))


class Shrink(nn.Module):
    """Half the size: of four pixels one, which stands where the last of them does: the lower two of a row and the one
    above it, and of columns the left one too where ``left`` pixels alone were seen."""

    def __init__(self, into: int, out: int, *, left: bool) -> None:
        super().__init__()
        self.linear, self.left = Pointwise(4 * into, out), left

    def forward(self, x: Tensor) -> Tensor:
        n, height, width, channels = x.shape
        x = F.pad(x, (0, 0, int(self.left), 0, 1, 0))[:, :height, :width]
        x = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(2, 3)
        out: Tensor = self.linear(x.flatten(3))
        return out

    def row(self, above: Tensor, own: Tensor) -> Tensor:
        """A row (N, W / 2, C) of two (N, W, C)."""
        n, width, channels = own.shape
        x = torch.stack([above, own], dim=2).reshape(n, width // 2, 2, 2, channels).transpose(2, 3)
        out: Tensor = self.linear(x.flatten(2))
        return out

    def pixel(self, above: Tensor, own: Tensor) -> Tensor:
        """A pixel (N, C) of two of each row, (N, 2, C)."""
        out: Tensor = self.linear(torch.cat([above, own], dim=1).flatten(1))
        return out


class Grow(nn.Module):
    """Twice the size: of one pixel four."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.linear, self.out = Pointwise(into, 4 * out), out

    def forward(self, x: Tensor) -> Tensor:
        n, height, width, _ = x.shape
        x = self.linear(x).reshape(n, height, width, 2, 2, self.out).transpose(2, 3)
        return x.reshape(n, 2 * height, 2 * width, self.out)

    def row(self, x: Tensor) -> Tensor:
        """Two rows (N, 2, 2 W, C) of one."""
        n, width, _ = x.shape
        out: Tensor = self.linear(x).reshape(n, width, 2, 2, self.out).transpose(1, 2).flatten(2, 3)
        return out

    def pixel(self, x: Tensor) -> Tensor:
        """Four pixels (N, 2, 2, C) of one."""
        out: Tensor = self.linear(x).reshape(len(x), 2, 2, self.out)
        return out
