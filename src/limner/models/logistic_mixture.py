"""Mixtures of discretised logistic distributions, of a pixel's channels one after the other (Salimans et al. 2017,
*PixelCNN++*, sections 2.1 and 2.2)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.distributions import Distribution, at
from limner.models.discrete import logistic

#: The narrowest scale, in levels' distances: nearly all of its mass is one level's.
_NARROWEST = 0.1


def parameters(channels: int, components: int) -> int:
    """Numbers that a network says of a pixel."""
    return components * (1 + 2 * channels + channels * (channels - 1) // 2)


class LogisticMixture(Distribution):
    """Of a pixel (N, C), or of all pixels of a picture (N, H, W, C), each by itself.

    Args:
        said: (..., parameters), what a network says.
        channels: of the pixel.
        levels: that each value may have.
    """

    def __init__(self, said: Tensor, channels: int, levels: int) -> None:
        self.said, self.values, self.levels = said, channels, levels
        each = parameters(channels, 1)
        self.parts = said.reshape(*said.shape[:-1], said.shape[-1] // each, each)

    @property
    def weight(self) -> Tensor:
        """ln of each component's, (..., K)."""
        return F.log_softmax(self.parts[..., 0], dim=-1)

    def index(self, which: Tensor | slice) -> LogisticMixture:
        return LogisticMixture(self.said[which], self.values, self.levels)

    def log_prob(self, values: Tensor) -> Tensor:
        x, (mean, log_scale, slope) = self._placed(values)[..., None, :], self._split(self.parts)
        means = torch.stack([_mean(mean, slope, channel, x) for channel in range(self.values)], dim=-1)
        return torch.logsumexp(self.weight + logistic(x, means, log_scale, self.levels).sum(-1), dim=-1)

    def logits(self, before: Tensor) -> Tensor:
        x, (mean, log_scale, slope) = self._placed(before)[..., None, :], self._split(self.parts)
        channel, weight = before.shape[-1], self.weight
        for earlier in range(channel):
            its = _mean(mean, slope, earlier, x)
            weight = weight + logistic(x[..., earlier], its, log_scale[..., earlier], self.levels)
        every = torch.linspace(-1, 1, self.levels, device=before.device, dtype=weight.dtype)
        its = _mean(mean, slope, channel, x)[..., None]
        return torch.logsumexp(weight[..., None] + logistic(every, its, log_scale[..., channel, None], self.levels), -2)

    def draw(self, uniforms: Tensor) -> Tensor:
        """The first number chooses a component, each other one a channel's value of it."""
        chosen = at(self.parts[..., 0], uniforms[..., 0])[..., None, None]
        own = self.parts.gather(-2, chosen.expand(*chosen.shape[:-1], self.parts.shape[-1])).squeeze(-2)
        mean, log_scale, slope = self._split(own)
        apart = torch.logit(uniforms[..., 1:]) * log_scale.exp()
        if self.values == 1:
            return self._nearest(mean + apart)
        drawn = mean.new_zeros(mean.shape, dtype=torch.int64)
        for channel in range(self.values):
            value = _mean(mean, slope, channel, self._placed(drawn)) + apart[..., channel]
            drawn[..., channel] = self._nearest(value)
        return drawn

    def _split(self, parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means and ln of scales (..., C), and the shares of channels before in means (..., C (C - 1) / 2)."""
        c = self.values
        return (
            parts[..., 1 : 1 + c],
            parts[..., 1 + c : 1 + 2 * c].clamp_min(math.log(_NARROWEST * 2 / (self.levels - 1))),
            parts[..., 1 + 2 * c :].tanh(),
        )

    def _placed(self, values: Tensor) -> Tensor:
        return values.to(self.said.dtype) * (2 / (self.levels - 1)) - 1

    def _nearest(self, x: Tensor) -> Tensor:
        return ((x + 1) * ((self.levels - 1) / 2)).round().clamp(0, self.levels - 1).long()


def _mean(mean: Tensor, slope: Tensor, channel: int, x: Tensor) -> Tensor:
    """Of a channel: what the network says, and so much of each channel before (equation 3)."""
    first = channel * (channel - 1) // 2
    out = mean[..., channel]
    for earlier in range(channel):
        out = out + slope[..., first + earlier] * x[..., earlier]
    return out
