"""Random changes that leave a picture's meaning as it is. Every draw is a pure function of (seed, sample)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from limner import random
from limner.data.levels import Pixels
from limner.errors import UserError

_BLOCK = 8192  # samples whose draws are made together: a small batch alone would spend more on them than on pixels
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class Augment:
    """How training pictures are varied. Everything but ``flip`` is off by default.

    Attributes:
        flip: mirror half of the pictures left to right. None: only where the data set says that this keeps their
            meaning (photos of the catalogue, not digits or letters); a user's own folder is not flipped unless asked.
        crop: shift by up to so many pixels either way, filling by reflection.
        rotate: turn by up to so many degrees either way, filling by reflection.
        colour: strength, 0 to 1, of random brightness, contrast and saturation.
    """

    flip: bool | None = None
    crop: int = 0
    rotate: float = 0.0
    colour: float = 0.0

    def mirrors(self, mirror_ok: bool) -> bool:
        """Whether pictures are mirrored, of a set where that keeps their meaning or does not."""
        return mirror_ok if self.flip is None else self.flip

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise UserError(f"augment.crop {self.crop} is negative; give pixels, 0 for off")
        if not 0 <= self.rotate <= 180:
            raise UserError(f"augment.rotate {self.rotate} is not in 0 to 180 degrees")
        if not 0 <= self.colour <= 1:
            raise UserError(f"augment.colour {self.colour} is not in 0 to 1")


NO_AUGMENT = Augment(flip=False)


def draws(seed: int, samples: Tensor, stream: str, count: int) -> npt.NDArray[np.float32]:
    """Uniform draws in (0, 1), (N, count), as :func:`limner.random.uniform` gives them, drawn a block ahead."""
    at = samples.numpy()
    block, within = at // _BLOCK, at % _BLOCK
    drawn = np.empty((len(at), count), np.float32)
    for number in np.unique(block):
        here = block == number
        drawn[here] = _block(seed, int(number), stream, count)[within[here]]
    return drawn


@lru_cache(maxsize=32)
def _block(seed: int, number: int, stream: str, count: int) -> npt.NDArray[np.float32]:
    samples = torch.arange(number * _BLOCK, (number + 1) * _BLOCK)
    drawn: npt.NDArray[np.float32] = random.uniform(seed, samples, stream, shape=(count,)).numpy()
    return drawn


def mirrored(seed: int, samples: Tensor) -> npt.NDArray[np.bool_]:
    """Which of the samples are mirrored, (N,), where half of them are."""
    return draws(seed, samples, "augment/flip", 1)[:, 0] < 0.5


def move(
    images: Pixels,
    indices: npt.NDArray[np.int64],
    *,
    crop: int,
    mirror: bool,
    seed: int,
    samples: Tensor,
) -> Pixels:
    """The chosen pictures, (N, H, W, C) with their bits, shifted and mirrored; a fresh array."""
    picked = _shifted(images, indices, crop, seed, samples) if crop else images[indices]
    if mirror:
        which = np.flatnonzero(mirrored(seed, samples))
        before, after = picked[which], np.empty((len(which), *picked.shape[1:]), picked.dtype)
        for channel in range(picked.shape[3]):  # NumPy copies one reversed channel three times as fast as all at once
            after[..., channel] = before[:, :, ::-1, channel]
        picked[which] = after
    return picked


def _shifted(images: Pixels, indices: npt.NDArray[np.int64], crop: int, seed: int, samples: Tensor) -> Pixels:
    height, width = images.shape[1:3]
    draw = draws(seed, samples, "augment/crop", 2)
    shift = np.floor(draw * (2 * crop + 1)).astype(np.int64) - crop
    shifted = images[indices[:, None], _reflected(shift[:, :1], height)]
    for across in np.unique(shift[:, 1]):  # whole rows, then all pictures with one shift: far faster than single pixels
        which = np.flatnonzero(shift[:, 1] == across)
        columns = _reflected(np.array([[across]]), width)[0]
        shifted[which] = np.take(shifted[which], columns, axis=2, mode="clip")
    return shifted


def _reflected(shift: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.int64]:
    """The source of each pixel along one side, (N, side); beyond the edge it turns back, the edge itself once."""
    period = max(2 * (side - 1), 1)
    at = (np.arange(side) + shift) % period
    return np.minimum(at, period - at) if side > 1 else np.zeros_like(at)


def rotate(images: Tensor, degrees: float, *, seed: int, samples: Tensor) -> Tensor:
    """Turn each picture (N, C, H, W) about its centre by a uniform angle; bilinear, filled by reflection."""
    height, width = images.shape[2:]
    angle = (torch.from_numpy(draws(seed, samples, "augment/rotate", 1)[:, 0]) * 2 - 1) * math.radians(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # affine_grid works in units of half a side, so a turn of a non-square picture needs the ratio of its sides.
    rows = [torch.stack([cos, -sin * height / width, zero], 1), torch.stack([sin * width / height, cos, zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    turned = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return turned.contiguous(memory_format=torch.channels_last)


def recolour(images: Tensor, strength: float, *, seed: int, samples: Tensor) -> Tensor:
    """Change brightness, contrast and, of RGB, saturation of (N, C, H, W) in [-1, 1]; alpha stays as it is."""
    draw = (torch.from_numpy(draws(seed, samples, "augment/colour", 3)).reshape(-1, 3, 1, 1, 1) * 2 - 1) * strength
    colours = images[:, :3] if images.shape[1] >= 3 else images[:, :1]
    mean = colours.mean(dim=(1, 2, 3), keepdim=True)
    changed = mean + (colours - mean) * (1 + draw[:, 0]) + draw[:, 1]
    if colours.shape[1] == 3:
        luma = (changed * changed.new_tensor(_LUMA).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
        changed = luma + (changed - luma) * (1 + draw[:, 2])
    changed = torch.cat([changed.clamp(-1.0, 1.0), images[:, colours.shape[1] :]], dim=1)
    return changed.contiguous(memory_format=torch.channels_last)
