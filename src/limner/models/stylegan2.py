"""StyleGAN2 (Karras et al. 2020a), in plain PyTorch.

A code is mapped to a style, which scales the channels of every convolution; noise may add what no code tells. The
critic is residual, and sees how much the pictures of a batch differ. Classes come in as in StyleGAN2-ADA (Karras et
al. 2020b): beside the code, and by projection. The first maps are as many halvings away from the picture as leave at
most 7 pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Condition, ImageSpec, Noise, StyleGenerator
from limner.errors import within
from limner.models.critic import Critic, FoldedPairConfig, doubled, halvings
from limner.models.enlarging import narrowed, parted
from limner.models.equalized import GAIN, EqualConv, EqualLinear, activated, halved, smoothed, twice
from limner.models.folding import folded, folded_spec, folding
from limner.models.layers import BatchSpread, padded

#: Share of the rate at which the mapping learns (Karras et al. 2019, appendix C).
_MAPPING_RATE = 0.01


@dataclass(frozen=True)
class StyleGAN2Config(FoldedPairConfig):
    """Shape of both networks.

    Attributes:
        mapping: layers between a code and its style.
        noise: is added to all maps, which learn how much of it. Few iterations learn to sprinkle pictures with it
            (docs/report-card.md).
    """

    kind: Literal["stylegan2"] = "stylegan2"
    mapping: int = 2
    noise: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        within("net.mapping", self.mapping, 1, 32)

    def generator(self, spec: ImageSpec, classes: int) -> StyleGAN2Generator:
        return StyleGAN2Generator(self, spec, classes)

    def critic(self, spec: ImageSpec, classes: int) -> StyleGAN2Critic:
        return StyleGAN2Critic(self, spec, classes)


def _unit(x: Tensor) -> Tensor:
    """x (N, K) with numbers of mean square 1."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Mapping(nn.Module):
    """Codes (N, code) and classes to styles (N, code)."""

    def __init__(self, code: int, layers: int, classes: int) -> None:
        super().__init__()
        self.label = nn.Embedding(classes, code) if classes else None
        inputs = [code * (2 if classes else 1), *[code] * layers]
        self.layers = nn.ModuleList(EqualLinear(a, b, rate=_MAPPING_RATE, gain=GAIN) for a, b in pairwise(inputs))

    def forward(self, z: Tensor, cond: Condition) -> Tensor:
        h = _unit(z)
        if self.label is not None and cond.label is not None:
            h = torch.cat([h, _unit(self.label(cond.label))], dim=1)
        for layer in self.layers:
            h = activated(layer(h))
        return h


class Modulated(nn.Module):
    """A convolution whose input channels a style scales, and whose outputs are brought to the size that an activation
    wants (section 2.2, equations 1 to 3; :data:`~limner.models.equalized.GAIN`).

    Activations are scaled instead of weights, which is the same and spares a set of weights for each picture.

    Args:
        into, out: channels.
        style: numbers of a style.
        side: of the kernel.
        up: at twice the size.
        demodulate: bring outputs to size; not where they are colours.
    """

    def __init__(
        self, into: int, out: int, style: int, side: int, *, up: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.affine = EqualLinear(style, into, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out, into, side, side))
        self.scale, self.side, self.up, self.demodulate = 1 / math.sqrt(into * side**2), side, up, demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale = self.affine(style)
        weight = self.weight * self.scale
        x = x * scale[:, :, None, None]
        if self.up:
            # Where a kernel of 3 is moved by 2, a filter of 4 makes up for it (Karras et al. 2019, section 2.2).
            x = smoothed(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), gain=4.0)
        else:
            x = F.conv2d(x, weight, padding=self.side // 2)
        if self.demodulate:
            size = F.linear(scale.square(), weight.square().sum((2, 3)))
            x = x * ((size + 1e-8).rsqrt() * GAIN)[:, :, None, None]
        return x


class Styled(nn.Module):
    """A modulated convolution, noise where there is any, bias, leaky ReLU."""

    def __init__(self, into: int, out: int, style: int, *, up: bool = False, noise: bool = False) -> None:
        super().__init__()
        self.conv = Modulated(into, out, style, 3, up=up)
        self.noise = nn.Parameter(torch.zeros(())) if noise else None
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor, style: Tensor, size: tuple[int, int], noise: Noise, name: str) -> Tensor:
        x = self.conv(x, style)[:, :, : size[0], : size[1]]
        if self.noise is not None:
            x = x + self.noise * GAIN * noise(name, (1, *size)).to(x.dtype)
        return activated(x + self.bias[:, None, None] * GAIN)


class StyleGAN2Generator(StyleGenerator):
    """A code (N, code) to pictures (N, C, H, W) in (-1, 1).

    Args:
        config: its shape.
        spec: of the pictures (or latents) it makes.
        classes: number of labels; 0 makes it unconditional.
    """

    def __init__(self, config: StyleGAN2Config, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.code = config.code
        self.sizes = halvings(spec.size)[::-1]
        self.unshuffle = folding(spec.size, config.unshuffle)
        full = doubled(config.width, config.most, len(parted(self.sizes, self.unshuffle)[0]))[::-1]
        widths = full[:-1] + narrowed(full[-1], self.unshuffle)
        self.mapping = Mapping(config.code, config.mapping, classes)
        self.register_buffer("mean", torch.zeros(max(1, classes), config.code))
        self.mean: Tensor
        self.constant = nn.Parameter(torch.randn(1, widths[0], *self.sizes[0]))
        styled = partial(Styled, style=config.code, noise=config.noise)
        self.first = styled(widths[0], widths[0])
        self.ups = nn.ModuleList(styled(into, out, up=True) for into, out in pairwise(widths))
        self.convs = nn.ModuleList(styled(width, width) for width in full[1:])
        colours = [Modulated(width, spec.channels, config.code, 1, demodulate=False) for width in widths]
        self.colours = nn.ModuleList(colours)
        self.bias = nn.Parameter(torch.zeros(spec.channels))
        self.styles = 1 + len(self.ups) + len(self.convs) + 1

    def latent(self, z: Tensor, cond: Condition) -> Tensor:
        w: Tensor = self.mapping(z, cond)
        return w

    def center(self, cond: Condition) -> Tensor:
        return self.mean[:1] if cond.label is None else self.mean[cond.label]

    def hearing(self) -> list[Tensor]:
        return [part.affine.weight for part in self.modules() if isinstance(part, Modulated)]

    def synthesize(self, w: Tensor, cond: Condition, noise: Noise) -> Tensor:
        """w is (N, code), or (N, styles, code): one for each convolution and the last colours."""
        at = iter(w.unbind(1) if w.ndim == 3 else [w] * self.styles)
        h = self.constant.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        h = self.first(h, next(at), self.sizes[0], noise, "0")
        style = next(at)
        colours = self.colours[0](h, style)
        for i, (up, colour, size) in enumerate(zip(self.ups, self.colours[1:], self.sizes[1:], strict=True)):
            h = up(h, style, size, noise, f"{2 * i + 1}")
            style = next(at)
            if i < len(self.convs):
                h = self.convs[i](h, style, size, noise, f"{2 * i + 2}")
                style = next(at)
            colours = twice(colours)[:, :, : size[0], : size[1]] + colour(h, style)
        # As published, there is no bound: on pictures that lie at theirs a critic then tells all (docs/report-card.md).
        return torch.tanh(colours + self.bias[:, None, None])

    @torch.no_grad()
    def settle(self, codes: Tensor, cond: Condition) -> None:
        """Measure the mean style, of each class, over these codes (N, code)."""
        styles = self.mapping(codes, cond)
        if cond.label is None:
            self.mean.copy_(styles.mean(0, keepdim=True))
            return
        sums = torch.zeros_like(self.mean).index_add_(0, cond.label, styles)
        self.mean.copy_(sums / cond.label.bincount(minlength=len(self.mean)).clamp_min(1)[:, None])


class Residual(nn.Module):
    """Two convolutions to half the size, and the way around them (figure 7c)."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        half = math.sqrt(0.5)  # the sum of two is as large as either
        self.conv0, self.conv1 = EqualConv(into, into, 3, gain=GAIN), EqualConv(into, out, 3, gain=GAIN * half)
        self.skip = EqualConv(into, out, 1, bias=False, gain=half)

    def forward(self, x: Tensor) -> Tensor:
        h = activated(self.conv1(halved(activated(self.conv0(x)))))
        out: Tensor = h + self.skip(halved(x))
        return out


class StyleGAN2Critic(Critic):
    """Pictures (N, C, H, W) to scores (N,).

    Args:
        config: its shape.
        spec: of the pictures.
        classes: number of labels; 0 judges pictures alone.
    """

    def __init__(self, config: StyleGAN2Config, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.unshuffle = folding(spec.size, config.unshuffle)
        spec = folded_spec(spec, self.unshuffle)
        sizes = halvings(spec.size)
        widths = doubled(config.width, config.most, len(sizes))
        self.stride = 2 ** (len(sizes) - 1)
        height, width = (-(-side // self.stride) for side in spec.size)
        self.first = EqualConv(spec.channels, widths[0], 1, gain=GAIN)
        self.blocks = nn.ModuleList(Residual(into, out) for into, out in pairwise(widths))
        self.spread = BatchSpread()
        self.conv = EqualConv(widths[-1] + 1, widths[-1], 3, gain=GAIN)
        self.dense = EqualLinear(widths[-1] * height * width, widths[-1], gain=GAIN)
        # No bias: where only differences count, it has no slope, and would drift.
        self.score = EqualLinear(widths[-1], config.code if classes else 1, bias=None)
        self.label = nn.Embedding(classes, config.code) if classes else None

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        h = activated(
            self.first(padded(folded(x, self.unshuffle), self.stride).contiguous(memory_format=torch.channels_last))
        )
        for block in self.blocks:
            h = block(h)
        h = torch.cat([h, self.spread(h)], dim=1)
        scores: Tensor = self.score(activated(self.dense(activated(self.conv(h)).flatten(1))))
        if self.label is None or cond.label is None:
            return scores[:, 0]
        # By how much it suits its class, as NVlabs/stylegan2-ada-pytorch has it.
        return (scores * _unit(self.label(cond.label))).sum(1) / math.sqrt(scores.shape[1])
