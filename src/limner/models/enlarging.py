"""The last maps of a generator, which cost the most: few channels, and one convolution of each size."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from limner.models.equalized import twice

Sizes = list[tuple[int, int]]

#: Channels of any map, at least.
_NARROWEST = 8


def narrowed(width: int, side: int) -> list[int]:
    """Channels of maps of ``width`` and of those up to ``side`` times their size: half as many with each doubling, and
    at least 8."""
    return [width, *(max(_NARROWEST, width >> level) for level in range(1, side.bit_length()))]


def parted(sizes: Sizes, side: int) -> tuple[Sizes, Sizes]:
    """(height, width) of maps up to a picture's: up to 1 / ``side`` the size, and from the last of those on."""
    levels = len(sizes) - (side.bit_length() - 1)
    return sizes[:levels], sizes[levels - 1 :]


class Enlarging(nn.Module):
    """Maps (N, width, h, w) to pictures (N, channels, H, W), by bilinear interpolation between convolutions.

    Pictures that are folded into channels, one kernel for each place of a fold, come out behind a pattern of the fold's
    size (docs/report-card.md).

    Args:
        width: channels of the maps.
        channels: of the pictures.
        sizes: (height, width) of maps from the given ones to the pictures, each twice the one before or one less.
        before: of so many channels: what is done before a convolution.
        conv: a convolution of so many channels to so many.
    """

    def __init__(
        self,
        width: int,
        channels: int,
        sizes: Sizes,
        before: Callable[[int], nn.Module],
        conv: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.sizes = sizes[1:]
        widths = narrowed(width, 2 ** len(self.sizes))
        self.steps = nn.ModuleList(nn.Sequential(before(a), conv(a, b)) for a, b in pairwise(widths))
        self.head = nn.Sequential(before(widths[-1]), conv(widths[-1], channels))

    def forward(self, h: Tensor) -> Tensor:
        for step, size in zip(self.steps, self.sizes, strict=True):
            h = twice(step(h))[:, :, : size[0], : size[1]]
        out: Tensor = self.head(h)
        return out
