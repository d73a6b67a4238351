"""The diffusion transformer: patches as tokens, the level and the label through adaptive norms that begin at zero.

After Peebles and Xie 2023 (adaLN-Zero) with the parts that later work settled on: rotary positions over rows and
columns (Su et al. 2021), RMS norms, also of queries and keys, and SwiGLU (Shazeer 2020), as in JiT (Li and He 2025),
which says the clean picture itself (the preconditioning "data") and so needs no codec in front of large patches.
"""

from __future__ import annotations

import math
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
from limner.models.fused import gated, modulated, normed_and_turned, swiglu
from limner.models.layers import Pointwise, padded, to_multiple, wide, zeroed

#: Tokens that an automatic patch leaves along the longer side, at most; more than half of them.
_LONGEST = 12
#: Largest patch, also where that leaves more tokens.
_LARGEST = 64
#: Of the rotary angles, by position in tokens.
_BASE = 100.0


@dataclass(frozen=True)
class DiTConfig:
    """Shape of a diffusion transformer.

    Attributes:
        width: of a token; a multiple of 4 x heads.
        depth: blocks.
        heads: of attention.
        patch: pixels along a token's side; 0 fits it to the pictures, so that the longer side has 7 to 12 tokens,
            or more where 64 pixels are too few for that.
        dropout: probability after attention and after the two-layer network.
        checkpointing: forget what blocks computed and compute it again for the gradients: less memory, a third more
            time.
    """

    kind: Literal["dit"] = "dit"
    width: int = 192
    depth: int = 6
    heads: int = 3
    patch: int = 0
    dropout: float = 0.0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        bounds = {
            "width": (4, 16384),
            "depth": (1, 256),
            "heads": (1, 256),
            "patch": (0, _LARGEST),
            "dropout": (0, 0.99),
        }
        for name, (lowest, highest) in bounds.items():
            within(f"net.{name}", getattr(self, name), lowest, highest)
        if self.width % (4 * self.heads):
            raise UserError(f"net.width is {self.width}; with {self.heads} heads give a multiple of {4 * self.heads}")

    def fitted(self, size: tuple[int, int]) -> DiTConfig:
        """With nothing left to be fitted to pictures of this (height, width)."""
        if self.patch:
            return self
        return replace(self, patch=min(_LARGEST, 2 ** max(0, math.ceil(math.log2(max(size) / _LONGEST)))))

    def build(self, spec: ImageSpec, classes: int, channels: int, *, jumps: bool = False) -> DiT:
        """The network with fresh weights, for pictures of ``spec``; it gives ``channels`` channels. With ``jumps`` it
        may be told where a jump leads."""
        return DiT(self, spec, classes, channels, jumps=jumps)


def rotary(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Complex numbers (height * width, dim / 2) of absolute value 1 by which pairs of a head's dimensions are turned:
    the first half of them by the row of a token, the others by its column. ``dim`` is a multiple of 4."""
    rows, columns = (torch.arange(n, device=device, dtype=torch.float32) for n in (height, width))
    return turned(rows.repeat_interleave(width), columns.repeat(height), dim)


def turned(rows: Tensor, columns: Tensor, dim: int) -> Tensor:
    """The same of tokens at these places, (T,) each: (T, dim / 2)."""
    turns = _BASE ** -(torch.arange(dim // 4, device=rows.device, dtype=torch.float32) / (dim // 4))
    angle = torch.cat([rows[:, None] * turns, columns[:, None] * turns], dim=-1)
    return torch.polar(torch.ones_like(angle), angle)


class Block(nn.Module):
    """Attention and SwiGLU, each between an adaptive norm and an adaptive gate that begins closed."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        hidden = to_multiple(width * 8 / 3, 16)
        self.heads = heads
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        # Apart, because the gradient of a part of a tensor is a copy of the whole.
        self.qk = Pointwise(width, 2 * width, bias=False)
        self.value = Pointwise(width, width, bias=False)
        self.qk_scale = nn.Parameter(torch.ones(2, heads, width // heads))
        self.out = Pointwise(width, width, bias=False)
        self.gate = Pointwise(width, hidden, bias=False)
        self.up = Pointwise(width, hidden, bias=False)
        self.down = Pointwise(hidden, width, bias=False)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor, turns: Tensor) -> Tensor:
        scale, shift, gate, scale2, shift2, gate2 = wide(self.modulation(embedding))[:, None].chunk(6, dim=-1)
        x = gated(x, gate, self._attention(modulated(x, scale, shift), turns))
        h = modulated(x, scale2, shift2)
        return gated(x, gate2, self.dropout(self.down(swiglu(self.gate(h), self.up(h)))))

    def _attention(self, x: Tensor, turns: Tensor) -> Tensor:
        n, length, width = x.shape
        per_head = (self.heads, width // self.heads)
        query, key = normed_and_turned(self.qk(x).reshape(n, length, 2, *per_head), self.qk_scale, turns)
        a = attend(query, key, self.value(x).reshape(n, length, *per_head).transpose(1, 2))
        out: Tensor = self.dropout(self.out(a.transpose(1, 2).flatten(2)))
        return out


class DiT(nn.Module):
    """Raw network F(x, c_noise, label, c_noise of a jump's end): x (N, C, H, W) of any size to (N, channels, H, W).

    Args:
        config: its shape.
        spec: of the pictures (or latents) it sees.
        classes: number of labels; 0 makes it unconditional. Label -1 is the null label.
        channels: that it gives.
        jumps: whether it may be told where a jump leads.
    """

    def __init__(self, config: DiTConfig, spec: ImageSpec, classes: int, channels: int, *, jumps: bool = False) -> None:
        super().__init__()
        config = config.fitted(spec.size)
        width, pixels = config.width, config.patch**2
        self.patch, self.head_dim = config.patch, width // config.heads
        self.checkpointing = config.checkpointing
        self.embed = LevelAndLabel(width, width, classes, jumps=jumps)
        self.stem = Pointwise(spec.channels * pixels, width)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.depth))
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.head = zeroed(Pointwise(width, channels * pixels))

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None, to: Tensor | None = None) -> Tensor:
        height, width = x.shape[2:]
        patches = F.pixel_unshuffle(padded(x, self.patch), self.patch)
        rows, columns = patches.shape[2:]
        embedding = self.embed(noise, label, to)
        turns = rotary(rows, columns, self.head_dim, x.device)[:, None, None]
        h = wide(self.stem(patches.flatten(2).transpose(1, 2)))
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                h = checkpoint(block, h, embedding, turns, use_reentrant=False)
            else:
                h = block(h, embedding, turns)
        scale, shift = wide(self.modulation(embedding))[:, None].chunk(2, dim=-1)
        h = self.head(modulated(h, scale, shift))
        h = F.pixel_shuffle(h.transpose(1, 2).unflatten(2, (rows, columns)), self.patch)
        return h[:, :, :height, :width]
