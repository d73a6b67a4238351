"""Layers with equalised learning rates, and the filters around changes of size (Karras et al. 2018 and 2019)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: How many times as large a layer's outputs are before a leaky ReLU, which leaves about half of their squares. Weights
#: and biases are scaled by it, that nothing the size of pictures has to be.
GAIN = math.sqrt(2)


class EqualLinear(nn.Module):
    """A linear layer whose weights are kept of size 1 / ``rate`` and scaled as they are used, so that an optimiser that
    moves all weights by as much moves each layer by as large a share (Karras et al. 2018, section 4.1).

    Args:
        into, out: features.
        rate: learns at this share of the rate (Karras et al. 2019, appendix C).
        bias: the bias's first value; None for no bias.
        gain: of what comes out: :data:`GAIN` before an activation.
    """

    def __init__(self, into: int, out: int, *, rate: float = 1.0, bias: float | None = 0.0, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, into) / rate)
        self.bias = None if bias is None else nn.Parameter(torch.full((out,), bias / rate))
        self.scale, self.bias_scale = gain * rate / math.sqrt(into), gain * rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, None if self.bias is None else self.bias * self.bias_scale)


class EqualConv(nn.Module):
    """A convolution of that kind, without a change of size.

    Args:
        into, out: channels.
        side: of the kernel.
        gain: of what comes out: :data:`GAIN` before an activation.
    """

    def __init__(self, into: int, out: int, side: int, *, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, into, side, side))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        self.scale, self.bias_scale, self.side = gain / math.sqrt(into * side**2), gain, side

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias * self.bias_scale
        return F.conv2d(x, self.weight * self.scale, bias, padding=self.side // 2)


def activated(x: Tensor) -> Tensor:
    """A leaky ReLU, of slope 0.2 below 0."""
    return F.leaky_relu(x, 0.2)


def _kernel(x: Tensor) -> Tensor:
    """(C, 1, 4, 4): the binomial filter 1, 3, 3, 1 along both axes, of sum 1."""
    one = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
    return torch.outer(one, one).expand(x.shape[1], 1, 4, 4)


def halved(x: Tensor) -> Tensor:
    """x (N, C, H, W), filtered by 1, 3, 3, 1, at half the size; H and W are even."""
    return F.conv2d(x, _kernel(x), stride=2, padding=1, groups=x.shape[1])


def twice(x: Tensor) -> Tensor:
    """x (N, C, H, W) at twice the size, filtered by 1, 3, 3, 1 (which is bilinear interpolation)."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def smoothed(x: Tensor, gain: float) -> Tensor:
    """x (N, C, H, W), filtered by 1, 3, 3, 1 and scaled; one row and one column less."""
    return F.conv2d(x, _kernel(x) * gain, padding=1, groups=x.shape[1])
