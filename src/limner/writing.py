"""Pictures as what is written of them: whole numbers, in the order of writing."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.contracts import Codec, ImageSpec, Tokenizer
from limner.errors import UserError


def bytes_only(recipe: str, spec: ImageSpec) -> None:
    """Raises a UserError where values have more levels than a recipe that knows each by itself can tell apart."""
    if spec.bits != 8:
        raise UserError(f"{recipe} writes values of 8 bits, and these have {spec.bits}; train pixelcnn++ on them")


def levels_only(recipe: str, spec: ImageSpec) -> None:
    """Raises a UserError where values are tokens, for a recipe to which those with near numbers are alike."""
    if spec.codes:
        raise UserError(f"{recipe} writes levels, of which some lie near others, and no tokens; leave --codec out")


def values_of(x: Tensor, spec: ImageSpec) -> Tensor:
    """The levels (N, T) int64 of pictures (N, C, H, W) in [-1, 1]: row by row, each pixel's channels together. Tokens
    (N, T) are what they are."""
    if spec.codes:
        return x.long()
    top = 2**spec.bits - 1
    levels: Tensor = ((x + 1) * (top / 2)).round().clamp(0, top).long().permute(0, 2, 3, 1).flatten(1)
    return levels


def pictures_of(values: Tensor, spec: ImageSpec, dtype: torch.dtype = torch.float32) -> Tensor:
    """The pictures (N, C, H, W), in [-1, 1], of levels (N, T)."""
    x = values.to(dtype) * (2 / (2**spec.bits - 1)) - 1
    pictures: Tensor = x.reshape(len(values), *spec.size, spec.channels).permute(0, 3, 1, 2)
    return pictures


def written_spec(codec: Codec, spec: ImageSpec) -> ImageSpec:
    """What is written of pictures behind a codec: its tokens, or its latents' levels."""
    return codec.token_spec(spec) if isinstance(codec, Tokenizer) else codec.latent_spec(spec)


def written_of(x: Tensor, codec: Codec, spec: ImageSpec) -> Tensor:
    """What is written (N, T) of pictures (N, C, H, W) behind a codec: tokens, or levels of pixels."""
    return codec.tokenize(x) if isinstance(codec, Tokenizer) else values_of(x, spec)


def latents_of(values: Tensor, codec: Codec, spec: ImageSpec) -> Tensor:
    """What the codec decodes (N, c, h, w) of what was written (N, T)."""
    return codec.embed(values) if isinstance(codec, Tokenizer) else pictures_of(values, spec)


def touched(mask: Tensor, codec: Codec, spec: ImageSpec) -> Tensor:
    """Which of the values that are written stand for a pixel of a mask (H, W) bool, (T,) bool."""
    return codec.touched(mask) if isinstance(codec, Tokenizer) else mask.flatten().repeat_interleave(spec.channels)
