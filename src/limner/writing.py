"""Pictures as what is written of them: whole numbers, in the order of writing."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.contracts import ImageSpec
from limner.errors import UserError


def bytes_only(recipe: str, spec: ImageSpec) -> None:
    """Raises a UserError where values have more levels than a recipe that knows each by itself can tell apart."""
    if spec.bits != 8:
        raise UserError(f"{recipe} writes values of 8 bits, and these have {spec.bits}; train pixelcnn++ on them")


def values_of(x: Tensor, spec: ImageSpec) -> Tensor:
    """The levels (N, T) int64 of pictures (N, C, H, W) in [-1, 1]: row by row, each pixel's channels together."""
    top = 2**spec.bits - 1
    levels: Tensor = ((x + 1) * (top / 2)).round().clamp(0, top).long().permute(0, 2, 3, 1).flatten(1)
    return levels


def pictures_of(values: Tensor, spec: ImageSpec, dtype: torch.dtype = torch.float32) -> Tensor:
    """The pictures (N, C, H, W), in [-1, 1], of levels (N, T)."""
    x = values.to(dtype) * (2 / (2**spec.bits - 1)) - 1
    pictures: Tensor = x.reshape(len(values), *spec.size, spec.channels).permute(0, 3, 1, 2)
    return pictures
