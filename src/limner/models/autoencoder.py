"""Codecs that are trained: pictures to small maps of latents and back, with a normal distribution of latents (``kl``,
as in latent diffusion, Rombach et al. 2022) or a set of codes (``vq``, van den Oord et al. 2017; Esser et al. 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import LATENTS, Codec, ImageSpec, Tokenizer
from limner.errors import UserError, power_of_two, within
from limner.models.critic import doubled
from limner.models.folding import fitted_fold
from limner.models.layers import GroupNorm, padded, silu, zeroed
from limner.models.scales import brought_down, brought_up, scaled


@dataclass(frozen=True)
class KLCodecConfig:
    """Shape of both halves.

    Attributes:
        factor: a latent stands for so many pixels on each side; a power of two.
        channels: of the latents.
        width: channels of the largest maps; they double with each halving.
        most: channels of any map, at most.
        blocks: residual blocks for each size of maps.
        unshuffle: the largest maps are folded pictures, 1 / unshuffle the size; a power of two, at most ``factor``; 0
            fits it to the pictures, so that the longer side is 12 to 23, or as near as ``factor`` lets it.
    """

    kind: Literal["kl-codec"] = "kl-codec"
    factor: int = 4
    channels: int = 4
    width: int = 32
    most: int = 256
    blocks: int = 1
    unshuffle: int = 0

    def __post_init__(self) -> None:
        _check(self)

    def codec(self, spec: ImageSpec) -> KLCodec:
        return KLCodec(self, spec)


@dataclass(frozen=True)
class VQCodecConfig:
    """Shape of both halves, and the codes.

    Attributes:
        factor, width, most, blocks, unshuffle: as for ``kl-codec``.
        codes: how many there are.
        channels: numbers of a code.
        levels: finite scalar quantization instead (Mentzer et al. 2023): each channel is rounded to so many levels, and
            the codes are all combinations; () is off.
        scales: longer sides of maps of codes, from coarse to fine, of which each stands for what those before it leave
            of the latents (Tian et al. 2024, algorithm 1); the last is that of the latents; () is one map.
    """

    kind: Literal["vq-codec"] = "vq-codec"
    factor: int = 4
    width: int = 32
    most: int = 256
    blocks: int = 1
    unshuffle: int = 0
    codes: int = 512
    channels: int = 8
    levels: tuple[int, ...] = ()
    scales: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check(self)
        if self.scales != tuple(sorted(set(self.scales))) or (self.scales and self.scales[0] < 1):
            raise UserError(f"net.scales is {' '.join(map(str, self.scales))}; give numbers that grow, such as 1 2 4 7")
        if self.scales and self.channels < 2:
            raise UserError(f"net.channels is {self.channels}; with net.scales give 2 or more")
        if self.scales and self.levels:
            raise UserError("net.scales is for codes that follow what they stand for; leave net.levels out")
        within("net.codes", self.codes, 2, 2**20)
        for level in self.levels:
            within("net.levels", level, 2, 256)
        within("the number of all combinations of net.levels", math.prod(self.levels), 1, 2**20)

    def codec(self, spec: ImageSpec) -> VQCodec:
        return VQCodec(self, spec)


def _check(config: KLCodecConfig | VQCodecConfig) -> None:
    within("net.factor", config.factor, 2, 256)
    within("net.unshuffle", config.unshuffle, 0, config.factor)
    power_of_two("net.factor", config.factor)
    power_of_two("net.unshuffle", config.unshuffle)
    within("net.channels", config.channels, 1, 1024)
    within("net.width", config.width, 1, 4096)
    within("net.most", config.most, 1, 16384)
    within("net.blocks", config.blocks, 1, 64)


def _folding(config: KLCodecConfig | VQCodecConfig, size: tuple[int, int]) -> int:
    """The fold of pictures of this (height, width)."""
    return config.unshuffle or min(fitted_fold(size), config.factor)


def _widths(config: KLCodecConfig | VQCodecConfig, unshuffle: int) -> list[int]:
    """Channels of maps, from the largest ones."""
    return doubled(config.width, config.most, (config.factor // unshuffle).bit_length())


def _norm(channels: int) -> GroupNorm:
    groups = math.gcd(channels, 16)
    # A group of one channel would be one value where a map has one place.
    return GroupNorm(groups // 2 if groups == channels and groups > 1 else groups, channels)


class Residual(nn.Module):
    """Norm, SiLU, conv, twice, around which x passes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm0, self.norm1 = _norm(channels), _norm(channels)
        self.conv0, self.conv1 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv1(silu(self.norm1(self.conv0(silu(self.norm0(x))))))
        return out


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(channels) for _ in range(count)))


class Encoder(nn.Module):
    """Pictures (N, C, H, W) to maps (N, out, ceil(H / factor), ceil(W / factor)): what a linear map makes of each place
    (as the shortcuts of Chen et al. 2024, *Deep compression autoencoder*), and what a network adds to that."""

    def __init__(self, config: KLCodecConfig | VQCodecConfig, spec: ImageSpec, out: int) -> None:
        super().__init__()
        self.factor, self.unshuffle = config.factor, _folding(config, spec.size)
        widths = _widths(config, self.unshuffle)
        self.around = nn.Conv2d(spec.channels * self.factor**2, out, 1)
        self.stem = nn.Conv2d(spec.channels * self.unshuffle**2, widths[0], 3, padding=1)
        self.stages = nn.ModuleList(_blocks(width, config.blocks) for width in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.norm, self.head = _norm(widths[-1]), zeroed(nn.Conv2d(widths[-1], out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = padded(x, self.factor)
        flat, x = (
            F.pixel_unshuffle(x, side).contiguous(memory_format=torch.channels_last)
            for side in (self.factor, self.unshuffle)
        )
        h = self.stages[0](self.stem(x))
        for shrink, stage in zip(self.shrink, self.stages[1:], strict=True):
            h = stage(shrink(h))
        out: Tensor = self.head(silu(self.norm(h))) + self.around(flat)
        return out


class Decoder(nn.Module):
    """Maps (N, into, h, w) to pictures (N, C, h * factor, w * factor), in the same two parts."""

    def __init__(self, config: KLCodecConfig | VQCodecConfig, spec: ImageSpec, into: int) -> None:
        super().__init__()
        self.factor, self.unshuffle = config.factor, _folding(config, spec.size)
        widths = _widths(config, self.unshuffle)[::-1]
        self.around = nn.Conv2d(into, spec.channels * self.factor**2, 1)
        self.stem = nn.Conv2d(into, widths[0], 3, padding=1)
        self.stages = nn.ModuleList(_blocks(width, config.blocks) for width in widths)
        self.grow = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norm = _norm(widths[-1])
        self.head = zeroed(nn.Conv2d(widths[-1], spec.channels * self.unshuffle**2, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        h = self.stages[0](self.stem(z))
        for grow, stage in zip(self.grow, self.stages[1:], strict=True):
            h = stage(grow(F.interpolate(h, scale_factor=2.0, mode="nearest")))
        added = F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.unshuffle)
        return F.pixel_shuffle(self.around(z), self.factor) + added


class KLCodec(Codec):
    """Latents of a normal distribution each, brought to mean 0 and deviation 1 over all pictures.

    Args:
        config: its shape.
        spec: of the pictures.
    """

    def __init__(self, config: KLCodecConfig, spec: ImageSpec) -> None:
        super().__init__()
        self.factor, self.channels, self.size = config.factor, config.channels, spec.size
        self.encoder = Encoder(config, spec, 2 * config.channels)
        self.decoder = Decoder(config, spec, config.channels)
        # Of latents as the encoder makes them, followed in training and kept with the weights.
        self.mean: Tensor
        self.square: Tensor
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("square", torch.ones(()))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and ln variance of latents, (N, channels, h, w) each, before they are brought to size."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-30, 20)

    def decoded(self, z: Tensor) -> Tensor:
        """Pictures (N, C, H, W) of latents that were not brought to size."""
        return _trimmed(self.decoder(z), self.size, self.factor)

    @property
    def deviation(self) -> Tensor:
        """Of latents, ()."""
        return (self.square - self.mean.square()).clamp_min(1e-12).sqrt()

    def encode(self, x: Tensor) -> Tensor:
        return self.moments(x)[0]

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.posterior(x)
        return (mean - self.mean) / self.deviation, (0.5 * log_variance).exp() / self.deviation

    def decode(self, z: Tensor) -> Tensor:
        return self.decoded(z * self.deviation + self.mean)

    def latent_spec(self, spec: ImageSpec) -> ImageSpec:
        return _latents(spec, self.factor, self.channels)


class VQCodec(Tokenizer):
    """Latents that are one of some codes each.

    Args:
        config: its shape.
        spec: of the pictures.
    """

    def __init__(self, config: VQCodecConfig, spec: ImageSpec) -> None:
        super().__init__()
        self.factor, self.size, self.scales = config.factor, spec.size, config.scales
        self.channels = len(config.levels) or config.channels
        longer = max(self.latent_spec(spec).size)
        if self.scales and self.scales[-1] != longer:
            raise UserError(f"net.scales ends with {self.scales[-1]}; of these pictures it has to end with {longer}")
        self.encoder = Encoder(config, spec, self.channels)
        self.decoder = Decoder(config, spec, self.channels)
        codes = _combinations(config.levels) if config.levels else torch.randn(config.codes, self.channels)
        self.tokens, self.rounded = len(codes), bool(config.levels)
        self.codes: Tensor
        self.counts: Tensor
        self.register_buffer("codes", codes)
        self.register_buffer("counts", torch.zeros(len(codes)))  # how often each was used of late
        self.register_buffer("levels", torch.tensor(config.levels or (0,), dtype=codes.dtype))
        self.levels: Tensor

    def latents(self, x: Tensor) -> Tensor:
        """(N, channels, h, w), before they are quantized; within [-1, 1] where they will be rounded, and of root mean
        square 1 where maps of several scales will add up to them: else the coarsest takes up what all latents have in
        common, and nothing keeps that from growing."""
        z: Tensor = self.encoder(x)
        if self.rounded:
            return torch.tanh(z)
        return F.rms_norm(z.movedim(1, -1), (self.channels,), eps=1e-6).movedim(-1, 1) if self.scales else z

    def nearest(self, z: Tensor) -> Tensor:
        """The numbers (N, h, w) of the codes nearest to latents (N, channels, h, w)."""
        flat = z.detach().movedim(1, -1)
        if self.rounded:  # every channel's own nearest level is the nearest combination
            levels = self.levels.to(flat.dtype)
            at = ((flat + 1) / 2 * (levels - 1)).round().long()
            places = torch.cat([levels.long().flip(0).cumprod(0).flip(0)[1:], levels.long().new_ones(1)])
            number: Tensor = (at * places).sum(-1)
            return number
        rows, codes = flat.reshape(-1, self.channels), self.codes.to(flat.dtype)
        apart = codes.square().sum(1) - 2 * rows @ codes.T
        nearest: Tensor = apart.argmin(1).reshape(flat.shape[:-1])
        return nearest

    def looked_up(self, numbers: Tensor) -> Tensor:
        """The codes (N, channels, h, w) of these numbers (N, h, w)."""
        return self.codes[numbers].movedim(-1, 1)

    def maps(self, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """(height, width) of the maps of codes, from coarse to fine, of latents of this size."""
        return (*scaled(self.scales[:-1], size), size)

    def quantized(self, z: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The latents that stand for z (N, channels, h, w), and map by map, what was quantized (N, channels, h', w')
        and the numbers of its codes (N, h', w')."""
        size, rest = (z.shape[2], z.shape[3]), z.detach()
        latents, parts, numbers = torch.zeros_like(rest), [], []
        for one in self.maps(size):
            parts.append(brought_down(rest, one))
            numbers.append(self.nearest(parts[-1]))
            codes = brought_up(self.looked_up(numbers[-1]).to(rest.dtype), size)
            latents, rest = latents + codes, rest - codes
        return latents, parts, numbers

    def tokenize(self, x: Tensor) -> Tensor:
        return torch.cat([numbers.flatten(1) for numbers in self.quantized(self.latents(x))[2]], dim=1)

    def embed(self, tokens: Tensor) -> Tensor:
        size = _halved(self.size, self.factor)
        maps = self.maps(size)
        parts = torch.split(tokens, [height * width for height, width in maps], dim=1)
        codes = [self.looked_up(part.reshape(-1, *one)) for part, one in zip(parts, maps, strict=True)]
        return torch.stack([brought_up(one, size) for one in codes]).sum(0)

    def encode(self, x: Tensor) -> Tensor:
        return self.quantized(self.latents(x))[0]

    def token_spec(self, spec: ImageSpec) -> ImageSpec:
        written = super().token_spec(spec)
        return replace(written, scales=self.maps(written.size)) if self.scales else written

    def touched(self, mask: Tensor) -> Tensor:
        pixels = F.max_pool2d(padded(mask[None, None].float(), self.factor), self.factor)
        maps = self.maps((pixels.shape[2], pixels.shape[3]))
        return torch.cat([F.adaptive_max_pool2d(pixels, one).flatten() for one in maps]) > 0

    def decode(self, z: Tensor) -> Tensor:
        return _trimmed(self.decoder(z), self.size, self.factor)

    def latent_spec(self, spec: ImageSpec) -> ImageSpec:
        return _latents(spec, self.factor, self.channels)

    def use(self) -> Tensor:
        """Share of the codes that were used of late, (): at least a tenth as often as if all were used alike."""
        return (self.counts > 0.1 * self.counts.mean()).to(self.counts.dtype).mean()


def _combinations(levels: tuple[int, ...]) -> Tensor:
    """(codes, channels): all combinations of so many levels between -1 and 1."""
    return torch.cartesian_prod(*(torch.linspace(-1, 1, level) for level in levels)).reshape(-1, len(levels))


def _trimmed(pictures: Tensor, size: tuple[int, int], factor: int) -> Tensor:
    """Without what was added to pictures of this size so that they could be halved; pictures of other sizes whole."""
    own = all(-(-side // factor) * factor == length for side, length in zip(size, pictures.shape[2:], strict=True))
    return pictures[:, :, : size[0], : size[1]] if own else pictures


def _latents(spec: ImageSpec, factor: int, channels: int) -> ImageSpec:
    return ImageSpec(channels, _halved(spec.size, factor), LATENTS, spec.bits)


def _halved(size: tuple[int, int], factor: int) -> tuple[int, int]:
    return -(-size[0] // factor), -(-size[1] // factor)
