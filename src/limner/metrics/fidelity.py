"""How near pictures are to those they stand for: PSNR and SSIM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Of the window, in pixels, and of the two constants (Wang et al. 2004, section 3.3).
_SIDE, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03


def psnr(pictures: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels, (N,), of pictures (N, C, H, W) in [0, 1]; 100 at most, for no error."""
    error = (pictures.double() - truth.double()).square().flatten(1).mean(1)
    return -10 * torch.log10(error.clamp_min(1e-10))


def ssim(pictures: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity, (N,), of pictures (N, C, H, W) in [0, 1], each channel by itself, by a Gaussian window of
    11 pixels where the picture is as large (Wang et al. 2004, equation 13)."""
    x, y = pictures.double(), truth.double()
    window = [_gaussian(min(_SIDE, side)).to(x.device) for side in x.shape[2:]]
    kernel = torch.outer(*window).expand(x.shape[1], 1, -1, -1)

    def seen(values: Tensor) -> Tensor:
        return F.conv2d(values, kernel, groups=x.shape[1])

    mean_x, mean_y = seen(x), seen(y)
    variance_x, variance_y = seen(x * x) - mean_x**2, seen(y * y) - mean_y**2
    covariance = seen(x * y) - mean_x * mean_y
    light = (2 * mean_x * mean_y + _K1**2) / (mean_x**2 + mean_y**2 + _K1**2)
    structure = (2 * covariance + _K2**2) / (variance_x + variance_y + _K2**2)
    return (light * structure).flatten(1).mean(1)


def _gaussian(side: int) -> Tensor:
    places = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    weights = torch.exp(-places.square() / (2 * _SIGMA**2))
    return weights / weights.sum()
