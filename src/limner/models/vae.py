"""A convolutional variational autoencoder (Kingma and Welling 2014): an encoder to a normal distribution of codes, and
a decoder from a code to a distribution of every value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Autoencoding, Condition, ImageSpec, Noise
from limner.errors import UserError, within
from limner.models.couplings import Couplings
from limner.models.critic import doubled, halvings
from limner.models.discrete import logistic, normal
from limner.models.layers import GroupNorm, padded, silu


@dataclass(frozen=True)
class VAEConfig:
    """Shape of both halves.

    Attributes:
        code: numbers in a code.
        couplings: between normal codes z and the codes w that pictures have: pictures' codes are not normal, and where
            nothing learns how they are spread (Chen et al. 2017, *Variational lossy autoencoder*, section 3.2), samples
            are drawn where no picture is; 0 takes them for normal.
        width: channels of the largest maps; they double with each halving.
        most: channels of any map, at most.
        likelihood: of a value around what the decoder says: "logistic", over the levels that it may have (Salimans et
            al. 2017), or "gaussian", of values spread over their levels. Its width is learned, one for each channel
            (Rybkin et al. 2021).
    """

    kind: Literal["vae"] = "vae"
    code: int = 32
    couplings: int = 0
    width: int = 32
    most: int = 256
    likelihood: Literal["logistic", "gaussian"] = "logistic"

    def __post_init__(self) -> None:
        within("net.code", self.code, 1, 65536)
        within("net.couplings", self.couplings, 0, 64)
        if self.couplings and self.code < 2:
            raise UserError(f"net.couplings is {self.couplings}; a code of one number takes 0")
        within("net.width", self.width, 1, 4096)
        within("net.most", self.most, 1, 16384)

    def generator(self, spec: ImageSpec, classes: int) -> VAE:
        return VAE(self, spec, classes)


def _norm(channels: int) -> GroupNorm:
    return GroupNorm(math.gcd(channels, 8), channels)


class _Down(nn.Module):
    """Half the size: conv, norm, SiLU, and a residual conv."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(into, out, 4, stride=2, padding=1)
        self.norm0, self.norm1 = _norm(out), _norm(out)
        self.conv = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.shrink(x)
        out: Tensor = h + self.conv(silu(self.norm1(silu(self.norm0(h)))))
        return out


class _Up(nn.Module):
    """A residual conv, then twice the size."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.norm0, self.norm1 = _norm(into), _norm(into)
        self.conv = nn.Conv2d(into, into, 3, padding=1)
        self.grow = nn.ConvTranspose2d(into, out, 4, stride=2, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        h = x + self.conv(silu(self.norm0(x)))
        out: Tensor = self.grow(silu(self.norm1(h)))
        return out[:, :, : size[0], : size[1]]


class VAE(Autoencoding):
    """Codes (N, code) and pictures (N, C, H, W).

    Args:
        config: its shape.
        spec: of the pictures (or latents).
        classes: number of labels; 0 makes it unconditional.
    """

    def __init__(self, config: VAEConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.code, self.likelihood, self.levels = config.code, config.likelihood, 2**spec.bits
        self.continuous = config.likelihood == "gaussian"
        self.sizes = halvings(spec.size)
        widths = doubled(config.width, config.most, len(self.sizes))
        self.stride = 2 ** (len(self.sizes) - 1)
        self.smallest = widths[-1], *self.sizes[-1]
        inside, label = math.prod(self.smallest), min(64, config.code) if classes else 0
        self.label = nn.Embedding(classes, label) if classes else None
        self.spread = Couplings(config.code, label, config.couplings) if config.couplings else None
        self.stem = nn.Conv2d(spec.channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Down(a, b) for a, b in pairwise(widths))
        self.tell = nn.Linear(inside + label, 2 * config.code)
        self.hear = nn.Linear(config.code + label, inside)
        self.up = nn.ModuleList(_Up(b, a) for a, b in reversed([*pairwise(widths)]))
        self.norm = _norm(widths[0])
        self.head = nn.Conv2d(widths[0], spec.channels, 3, padding=1)
        self.log_scale = nn.Parameter(torch.full((spec.channels, 1, 1), -2.0))

    def posterior(self, x: Tensor, cond: Condition) -> tuple[Tensor, Tensor]:
        h = self.stem(padded(x, self.stride).contiguous(memory_format=torch.channels_last))
        for block in self.down:
            h = block(h)
        mean, log_variance = self.tell(self._labelled(silu(h).flatten(1), cond)).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)

    def latent(self, z: Tensor, cond: Condition) -> Tensor:
        return z if self.spread is None else self.spread(z, self._label(z, cond))

    def inverse_latent(self, w: Tensor, cond: Condition) -> tuple[Tensor, Tensor]:
        return super().inverse_latent(w, cond) if self.spread is None else self.spread.inverse(w, self._label(w, cond))

    def center(self, cond: Condition) -> Tensor:
        n = 1 if cond.label is None else len(cond.label)
        return self.latent(torch.zeros(n, self.code, device=self.log_scale.device), cond)

    def hearing(self) -> list[Tensor]:
        return [self.hear.weight[:, : self.code]]

    def synthesize(self, w: Tensor, cond: Condition, noise: Noise) -> Tensor:
        return self._decoded(w, cond)

    def log_prob(self, x: Tensor, w: Tensor, cond: Condition) -> Tensor:
        said, log_scale = self._decoded(w, cond), self.log_scale.clamp(-7, 2)
        if self.likelihood == "logistic":
            each = logistic(x, said, log_scale, self.levels)
        else:
            each = normal(x, said, log_scale, self.levels)
        return each.flatten(1).sum(1)

    def _decoded(self, w: Tensor, cond: Condition) -> Tensor:
        h = self.hear(self._labelled(w, cond)).reshape(len(w), *self.smallest)
        h = h.contiguous(memory_format=torch.channels_last)
        for block, size in zip(self.up, self.sizes[-2::-1], strict=True):
            h = block(h, size)
        out: Tensor = self.head(F.silu(self.norm(h)))
        return out

    def _labelled(self, x: Tensor, cond: Condition) -> Tensor:
        return torch.cat([x, self._label(x, cond)], dim=1)

    def _label(self, x: Tensor, cond: Condition) -> Tensor:
        """(N, label), or (N, 0) without classes."""
        return x[:, :0] if self.label is None or cond.label is None else self.label(cond.label)
