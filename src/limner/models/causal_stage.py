"""Two streams of causal maps through several sizes: in to the smallest maps and out again (Salimans et al. 2017, figure
2). One stream has seen the rows above a pixel, the other also what comes before it in its own row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from limner.contracts import Condition
from limner.models.causal import PIXELS, ROWS, Block, Grow, PixelMemory, RowMemory, Shrink

Kept = tuple[Block, RowMemory, Block, PixelMemory]
"""A block of the stream of rows and that of the other one, with what they keep."""


@dataclass
class StageMemory:
    """What is kept of maps of one size, and of the smaller ones.

    Attributes:
        inward, outward: what each block keeps of the stream of rows, and what that of the other stream does.
        above: the last row of the stream of rows on the way in, (N, W, C).
        halved: the even and the odd row of the other stream there, (N, 2, 1 + W, C), behind a pixel of zeros.
        odd: the second of two rows of the stream of rows that came back from smaller maps, (N, W, C).
        grown: two rows of the other stream that come back from them, (N, 2, W, C).
        inner: of the smaller maps.
    """

    inward: list[Kept]
    outward: list[Kept]
    above: Tensor
    halved: Tensor
    odd: Tensor
    grown: Tensor
    inner: StageMemory | None

    def index(self, which: Tensor) -> StageMemory:
        def kept(blocks: list[Kept]) -> list[Kept]:
            return [
                (block, of_row.index(which), other, of_pixel.index(which)) for block, of_row, other, of_pixel in blocks
            ]

        return StageMemory(
            inward=kept(self.inward),
            outward=kept(self.outward),
            above=self.above[which],
            halved=self.halved[which],
            odd=self.odd[which],
            grown=self.grown[which],
            inner=None if self.inner is None else self.inner.index(which),
        )


class Inner(nn.Module):
    """What lies between maps and those of half the size."""

    def __init__(self, widths: list[int], blocks: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.shrink = Shrink(widths[0], widths[1], left=False)
        self.pixels_shrink = Shrink(widths[0], widths[1], left=True)
        self.stage = Stage(widths[1:], blocks, classes, dropout)
        self.grow = Grow(widths[1], widths[0])
        self.pixels_grow = Grow(widths[1], widths[0])


class Stage(nn.Module):
    """Blocks on maps of one size, and smaller maps between them.

    Args:
        widths: channels of the maps, from this size on.
        blocks: of each stream, on the way in and again on the way out.
        classes: number of labels; 0 makes it unconditional.
        dropout: probability inside blocks.
    """

    def __init__(self, widths: list[int], blocks: int, classes: int, dropout: float) -> None:
        super().__init__()

        def stream(taps: int, heard: int) -> nn.ModuleList:
            return nn.ModuleList(Block(widths[0], taps, heard, classes, dropout) for _ in range(blocks))

        self.width = widths[0]
        self.inward, self.outward = stream(ROWS, 0), stream(ROWS, 1)
        self.pixels_inward, self.pixels_outward = stream(PIXELS, 1), stream(PIXELS, 2)
        self.inner = Inner(widths, blocks, classes, dropout) if len(widths) > 1 else None

    def forward(self, rows: Tensor, pixels: Tensor, cond: Condition) -> tuple[Tensor, Tensor]:
        """Both streams, (N, H, W, C) each."""
        skips = []
        for block, of_pixels in zip(self.inward, self.pixels_inward, strict=True):
            rows = block(rows, cond=cond)
            pixels = of_pixels(pixels, rows, cond=cond)
            skips.append((rows, pixels))
        if (inner := self.inner) is not None:
            rows, pixels = inner.stage(inner.shrink(rows), inner.pixels_shrink(pixels), cond)
            rows, pixels = inner.grow(rows), inner.pixels_grow(pixels)
        for block, of_pixels in zip(self.outward, self.pixels_outward, strict=True):
            skip, pixels_skip = skips.pop()
            rows = block(rows, skip, cond=cond)
            pixels = of_pixels(pixels, rows, pixels_skip, cond=cond)
        return rows, pixels

    def memory(self, n: int, width: int, cond: Condition) -> StageMemory:
        """Of n pictures of which nothing is written, with rows of so many pixels."""

        def empty(*shape: int) -> Tensor:
            return next(self.parameters()).new_zeros(n, *shape, self.width)

        def kept(rows: nn.ModuleList, pixels: nn.ModuleList) -> list[Kept]:
            return [
                (block, block.row_memory(n, width, cond), other, other.pixel_memory(n, width, cond))
                for block, other in zip(rows, pixels, strict=True)
                if isinstance(block, Block) and isinstance(other, Block)
            ]

        return StageMemory(
            inward=kept(self.inward, self.pixels_inward),
            outward=kept(self.outward, self.pixels_outward),
            above=empty(width),
            halved=empty(2, 1 + width),
            odd=empty(width),
            grown=empty(2, width),
            inner=None if self.inner is None else self.inner.stage.memory(n, width // 2, cond),
        )

    def begin(self, memory: StageMemory, row: int, x: Tensor) -> Tensor:
        """The next row of the stream of rows, (N, W, C), and what the pixels of that row will hear."""
        skips = []
        for block, kept, of_pixels, of_kept in memory.inward:
            x = block.row(kept, x)
            of_pixels.begin(of_kept, x)
            skips.append(x)
        if (inner := self.inner) is not None and memory.inner is not None:
            above, memory.above = memory.above, x
            if row % 2 == 0:
                small = inner.stage.begin(memory.inner, row // 2, inner.shrink.row(above, x))
                x, memory.odd = inner.grow.row(small).unbind(1)
            else:
                x = memory.odd
        for block, kept, of_pixels, of_kept in memory.outward:
            x = block.row(kept, x, skips.pop())
            of_pixels.begin(of_kept, x)
        return x

    def pixel(self, memory: StageMemory, row: int, column: int, x: Tensor) -> Tensor:
        """The next pixel of the other stream, (N, C)."""
        skips = []
        for _, _, block, kept in memory.inward:
            x = block.pixel(kept, column, x, None)
            skips.append(x)
        if (inner := self.inner) is not None and memory.inner is not None:
            memory.halved[:, row % 2, column + 1] = x
            if row % 2 == 0 and column % 2 == 0:
                own, above = memory.halved[:, :, column : column + 2].unbind(1)
                small = inner.pixels_shrink.pixel(above, own)
                small = inner.stage.pixel(memory.inner, row // 2, column // 2, small)
                memory.grown[:, :, column : column + 2] = inner.pixels_grow.pixel(small)
            x = memory.grown[:, row % 2, column]
        for _, _, block, kept in memory.outward:
            x = block.pixel(kept, column, x, skips.pop())
        return x
