"""The U-Net of EDM's grade: residual blocks with adaptive group norm, attention where it is asked for.

After Dhariwal and Nichol 2021 (ADM) and its simplification in Karras et al. 2022. The optional pixel-unshuffle stem
folds p x p pixels into channels, so that the network works at 1/p of the resolution: on a small machine most of the
time goes into the finest resolution, and folding it away buys several times as many steps for the same minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from limner.contracts import ImageSpec
from limner.errors import UserError, within
from limner.models.attention import attend
from limner.models.embedding import LevelAndLabel
from limner.models.folding import LARGEST_FOLD, fitted_fold
from limner.models.layers import GroupNorm, padded, scaled, silu, zeroed


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a U-Net.

    Attributes:
        width: channels at the finest resolution.
        multipliers: channels of each resolution, as multiples of width; each next one is half as large.
        blocks: residual blocks of each resolution, on the way down; one more on the way up.
        attention: which resolutions have self-attention, 0 is the finest.
        unshuffle: p of the pixel-unshuffle stem; 1 is none, 0 fits it to the pictures, so that the longer side is 12
            to 23 pixels where the network works.
        dropout: probability inside the residual blocks.
        checkpointing: forget what blocks computed and compute it again for the gradients: less memory, a third more
            time.
    """

    kind: Literal["unet"] = "unet"
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = ()
    unshuffle: int = 0
    dropout: float = 0.0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        bounds = {"width": (1, 8192), "blocks": (1, 64), "unshuffle": (0, LARGEST_FOLD), "dropout": (0, 0.99)}
        for name, (lowest, highest) in bounds.items():
            within(f"net.{name}", getattr(self, name), lowest, highest)
        if not 1 <= len(self.multipliers) <= 12 or not all(1 <= m <= 64 for m in self.multipliers):
            raise UserError(f"net.multipliers are {self.multipliers}; give 1 to 12 numbers from 1 to 64")
        last = len(self.multipliers) - 1
        if not all(0 <= level <= last for level in self.attention):
            raise UserError(f"net.attention is {self.attention}; this network has the resolutions 0 to {last}")

    def fitted(self, size: tuple[int, int]) -> UNetConfig:
        """With nothing left to be fitted to pictures of this (height, width)."""
        return self if self.unshuffle else replace(self, unshuffle=fitted_fold(size))

    def build(self, spec: ImageSpec, classes: int, channels: int, *, jumps: bool = False) -> UNet:
        """The network with fresh weights, for pictures of ``spec``; it gives ``channels`` channels. With ``jumps`` it
        may be told where a jump leads."""
        return UNet(self, spec, classes, channels, jumps=jumps)


def _parts(channels: int, most: int) -> int:
    """The largest number of equal parts, at most ``most``, that the channels can be cut into."""
    return next(parts for parts in range(max(1, most), 0, -1) if channels % parts == 0)


def _norm(channels: int) -> GroupNorm:
    return GroupNorm(_parts(channels, min(32, channels // 8)), channels)


class Block(nn.Module):
    """norm, SiLU, conv; adaptive norm, SiLU, conv; and the way around them."""

    def __init__(self, into: int, out: int, embedding: int, dropout: float, *, attention: bool) -> None:
        super().__init__()
        self.norm0 = _norm(into)
        self.conv0 = nn.Conv2d(into, out, 3, padding=1)
        self.affine = nn.Linear(embedding, 2 * out)
        self.norm1 = _norm(out)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv1 = zeroed(nn.Conv2d(out, out, 3, padding=1))
        self.skip = nn.Conv2d(into, out, 1) if into != out else nn.Identity()
        self.attention = Attention(out) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv0(silu(self.norm0(x)))
        scale, shift = self.affine(embedding)[:, :, None, None].chunk(2, dim=1)
        h = silu(scaled(self.norm1(h), scale + 1, shift))
        h = self.conv1(self.dropout(h))
        out: Tensor = self.attention(self.skip(x) + h)
        return out


class Attention(nn.Module):
    """Self-attention over the pixels of one resolution, heads of at least 64 channels, with its own way around."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = _parts(channels, channels // 64)
        self.norm = _norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w).transpose(3, 4).unbind(1)
        a = attend(q, k, v)
        out: Tensor = x + self.out(a.transpose(2, 3).reshape(n, c, h, w))
        return out


class UNet(nn.Module):
    """Raw network F(x, c_noise, label, c_noise of a jump's end): x (N, C, H, W) of any size to (N, channels, H, W).

    Args:
        config: its shape.
        spec: of the pictures (or latents) it sees.
        classes: number of labels; 0 makes it unconditional. Label -1 is the null label.
        channels: that it gives; as many as it sees by default.
        jumps: whether it may be told where a jump leads.
    """

    def __init__(
        self, config: UNetConfig, spec: ImageSpec, classes: int, channels: int | None = None, *, jumps: bool = False
    ) -> None:
        super().__init__()
        config = config.fitted(spec.size)
        p, width = config.unshuffle, config.width
        widths = [width * m for m in config.multipliers]
        embedding = 4 * width
        self.unshuffle, self.checkpointing = p, config.checkpointing
        self.stride = p * 2 ** (len(widths) - 1)
        # Sines and cosines come in pairs.
        self.embed = LevelAndLabel(width + width % 2, embedding, classes, jumps=jumps)

        def block(into: int, out: int, level: int, attention: bool | None = None) -> Block:
            attend = level in config.attention if attention is None else attention
            return Block(into, out, embedding, config.dropout, attention=attend)

        self.stem = nn.Conv2d(spec.channels * p * p, width, 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        skips, now = [width], width
        for level, out in enumerate(widths):
            for _ in range(config.blocks):
                self.down.append(block(now, out, level))
                now = out
                skips.append(now)
            if level + 1 < len(widths):
                self.shrink.append(nn.Conv2d(now, now, 3, stride=2, padding=1))
                skips.append(now)
        last = len(widths) - 1
        self.middle = block(now, now, last, attention=last in config.attention)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(widths))):
            for _ in range(config.blocks + 1):
                self.up.append(block(now + skips.pop(), widths[level], level))
                now = widths[level]
            if level:
                self.grow.append(nn.Conv2d(now, now, 3, padding=1))
        self.norm = _norm(now)
        self.head = zeroed(nn.Conv2d(now, (channels or spec.channels) * p * p, 3, padding=1))
        self.blocks = config.blocks

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None, to: Tensor | None = None) -> Tensor:
        height, width = x.shape[2:]
        folded = F.pixel_unshuffle(padded(x, self.stride), self.unshuffle)
        h = F.pixel_shuffle(self._body(folded, self.embed(noise, label, to)), self.unshuffle)
        return h[:, :, :height, :width]

    def _run(self, block: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
        again = self.checkpointing and torch.is_grad_enabled()
        out: Tensor = checkpoint(block, h, embedding, use_reentrant=False) if again else block(h, embedding)
        return out

    def _body(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.stem(x.contiguous(memory_format=torch.channels_last))
        skips, down = [h], iter(self.down)
        for level in range(len(self.shrink) + 1):
            if level:
                h = self.shrink[level - 1](h)
                skips.append(h)
            for _ in range(self.blocks):
                h = self._run(next(down), h, embedding)
                skips.append(h)
        h = self._run(self.middle, h, embedding)
        up = iter(self.up)
        for level in reversed(range(len(self.shrink) + 1)):
            for _ in range(self.blocks + 1):
                h = self._run(next(up), torch.cat([h, skips.pop()], dim=1), embedding)
            if level:
                h = self.grow[len(self.shrink) - level](F.interpolate(h, scale_factor=2.0, mode="nearest"))
        out: Tensor = self.head(silu(self.norm(h)))
        return out
