"""A few colours in place of all: the tokens of Chen et al. 2020, *Generative pretraining from pixels* (section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from limner.contracts import ImageSpec, Tokenizer
from limner.errors import within

#: Pixels that are held against all colours at once.
_TOGETHER = 65_536


@dataclass(frozen=True)
class PaletteConfig:
    """How many colours.

    Attributes:
        colours: at most; never more than a picture's values allow.
    """

    kind: Literal["palette"] = "palette"
    colours: int = 512

    def __post_init__(self) -> None:
        within("net.colours", self.colours, 2, 2**16)

    def codec(self, spec: ImageSpec) -> Palette:
        return Palette(self, spec)


class Palette(Tokenizer):
    """Every pixel is the nearest of some colours.

    Args:
        config: how many.
        spec: of the pictures.
    """

    def __init__(self, config: PaletteConfig, spec: ImageSpec) -> None:
        super().__init__()
        self.size = spec.size
        self.tokens = min(config.colours, 2 ** (spec.bits * spec.channels))
        self.colours = nn.Parameter(torch.rand(self.tokens, spec.channels) * 2 - 1)
        self.counts: Tensor
        self.register_buffer("counts", torch.zeros(self.tokens))  # of pixels that each stood for of late

    def nearest(self, x: Tensor) -> Tensor:
        """The numbers (N, H, W) of the colours nearest to the pixels of pictures (N, C, H, W)."""
        rows, colours = x.detach().movedim(1, -1).flatten(0, -2), self.colours.detach().to(x.dtype)
        sizes = colours.square().sum(1)
        # The squared distance less what is the same for all colours.
        nearest = [torch.addmm(sizes, part, colours.T, alpha=-2).argmin(1) for part in torch.split(rows, _TOGETHER)]
        return torch.cat(nearest).reshape(len(x), *x.shape[2:])

    def looked_up(self, numbers: Tensor) -> Tensor:
        """Pictures (N, C, H, W) of the colours of these numbers (N, H, W)."""
        return self.colours[numbers].movedim(-1, 1)

    def tokenize(self, x: Tensor) -> Tensor:
        return self.nearest(x).flatten(1)

    def embed(self, tokens: Tensor) -> Tensor:
        return self.looked_up(tokens.reshape(-1, *self.size))

    def encode(self, x: Tensor) -> Tensor:
        return self.looked_up(self.nearest(x))

    def touched(self, mask: Tensor) -> Tensor:
        return mask.flatten()

    def decode(self, z: Tensor) -> Tensor:
        return z

    def latent_spec(self, spec: ImageSpec) -> ImageSpec:
        return spec
