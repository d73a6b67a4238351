"""``pixels``: the picture itself, for nearest neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.features.extractor import Extractor, Images, as_tensor
from limner.features.weights import fingerprint

LARGEST = 32


def load(shape: tuple[int, int, int], device: torch.device) -> Extractor:
    """Pixels in [0, 1], flattened. Pictures above 32 pixels are reduced, antialiased, at their aspect ratio: copies
    are told by what they show, and a shift by one pixel of a large picture is still a copy."""
    height, width, channels = shape
    shrink = max(1.0, max(height, width) / LARGEST)
    size = (max(1, round(height / shrink)), max(1, round(width / shrink)))

    def forward(images: Images) -> Tensor:
        x = as_tensor(images, device)
        if size != (height, width):
            x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
        return x.flatten(1)

    return Extractor(
        name="pixels",
        dim=size[0] * size[1] * channels,
        fingerprint=fingerprint(f"pixels / 255, NCHW; longest side {LARGEST}; v1"),
        resizer="none" if size == (height, width) else f"bilinear antialiased {size[0]}x{size[1]}",
        channels=(1, 3, 4),
        forward=forward,
        shape=shape,
        limits="distances between pixels hardly see noise, and take blurred pictures for better ones",
    )
