"""What is done to pictures, real and made alike, before a critic sees them, so that a small set cannot be learned by
heart: differentiable, and a function of (seed, images seen)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.errors import within
from limner.objectives.objective import Context

#: Of each colour in a grey.
_THIRD = 1 / 3


@dataclass(frozen=True)
class NoAugment:
    """Nothing."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True)
class DiffAugment:
    """Every picture is changed in each of these ways (Zhao et al. 2020, section 4).

    Attributes:
        color: brightness, saturation and contrast.
        translation: by up to this share of the sides.
        cutout: a grey rectangle of this share of the sides.
    """

    kind: Literal["diffaugment"] = "diffaugment"
    color: bool = True
    translation: float = 0.125
    cutout: float = 0.5

    def __post_init__(self) -> None:
        within("objective.augment.translation", self.translation, 0, 1)
        within("objective.augment.cutout", self.cutout, 0, 1)


@dataclass(frozen=True)
class ADA:
    """Pictures are changed in each of many ways, each as likely as the critic overfits (adaptive discriminator
    augmentation, Karras et al. 2020, section 3).

    Attributes:
        target: of the mean sign of the critic's scores of real pictures: above it, changes become more likely.
        images: seen while the likelihood may go from 0 to 1.
        flip: mirror pictures too; only where a mirrored picture is one of the set.
        rotate: by quarters and by any angle.
        color: brightness, contrast, and, of colours, lightness, hue and saturation.
    """

    kind: Literal["ada"] = "ada"
    target: float = 0.6
    images: int = 100_000
    flip: bool = False
    rotate: bool = True
    color: bool = True

    def __post_init__(self) -> None:
        within("objective.augment.target", self.target, -1, 1)
        within("objective.augment.images", self.images, 1, 10**12)

    def followed(self, strength: Tensor, real: Tensor, images: int) -> Tensor:
        """How likely each change is from now on, (), where the critic took the share ``real`` of so many real pictures
        for real."""
        step = (2 * real - 1 - self.target).sign() * (images / self.images)
        return torch.where(real.isfinite(), (strength + step).clamp(0, 1), strength)


Augment = NoAugment | DiffAugment | ADA


def augmented(x: Tensor, augment: Augment, strength: Tensor, context: Context, name: str) -> Tensor:
    """x (N, C, H, W), changed as ``augment`` has it, by draws that ``name`` keys.

    Args:
        strength: how likely each change is, (), of :class:`ADA`.
    """
    match augment:
        case NoAugment():
            return x
        case DiffAugment():
            return _differentiable(x, augment, context, name)
        case ADA():
            return _adaptive(x, augment, strength, context, name)


def _each(values: Tensor) -> Tensor:
    """(N,) to (N, 1, 1, 1)."""
    return values[:, None, None, None]


def _differentiable(x: Tensor, augment: DiffAugment, context: Context, name: str) -> Tensor:
    """After the paper's own choice of ranges (appendix, "Color", "Translation", "Cutout")."""
    u = context.uniform(f"{name}/diffaugment", (7,))
    _, _, height, width = x.shape
    if augment.color:
        x = x + _each(u[:, 0] - 0.5)
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * _each(2 * u[:, 1])
        mean = x.mean((1, 2, 3), keepdim=True)
        x = mean + (x - mean) * _each(u[:, 2] + 0.5)
    if augment.translation:
        x = _moved(x, _within(u[:, 3], augment.translation * height), _within(u[:, 4], augment.translation * width))
    if augment.cutout:
        x = x * (1 - _rectangle(x, u[:, 5], u[:, 6], augment.cutout))
    return x


def _within(u: Tensor, most: float) -> Tensor:
    """Whole numbers in [-most, most], (N,), from u in (0, 1)."""
    whole = int(most + 0.5)
    return (u * (2 * whole + 1)).floor().long() - whole


def _moved(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """x with the picture moved by so many pixels, (N,) each, and 0 where it has left."""
    n, _, height, width = x.shape
    rows = torch.arange(height, device=x.device) - down[:, None]
    columns = torch.arange(width, device=x.device) - right[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    at = torch.arange(n, device=x.device)[:, None, None]
    taken = x.permute(0, 2, 3, 1)[at, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]]
    return taken.permute(0, 3, 1, 2) * inside[:, None]


def _rectangle(x: Tensor, u: Tensor, v: Tensor, share: float) -> Tensor:
    """(N, 1, H, W): 1 inside a rectangle of that share of the sides, whose middle may be anywhere."""

    def along(length: int, u: Tensor) -> Tensor:
        half = share * length / 2
        places = torch.arange(length, device=x.device) + 0.5
        return (places - u[:, None] * length).abs() < half

    _, _, height, width = x.shape
    return (along(height, u)[:, :, None] & along(width, v)[:, None])[:, None].to(x.dtype)


def _adaptive(x: Tensor, augment: ADA, strength: Tensor, context: Context, name: str) -> Tensor:
    """Changes of geometry in one, then of colour in one (Karras et al. 2020, appendix B)."""
    chance = context.uniform(f"{name}/whether", (12,)) < strength
    u = context.uniform(f"{name}/how", (12,)).double()
    z = context.noise(f"{name}/how-far", (12,)).double()

    def where(i: int, values: Tensor, otherwise: float) -> Tensor:
        return torch.where(chance[:, i], values, torch.full_like(values, otherwise))

    flip = where(0, 1 - 2 * (u[:, 0] < 0.5).double(), 1.0) if augment.flip else torch.ones_like(u[:, 0])
    turn = where(1, (4 * u[:, 1]).floor() * (math.pi / 2), 0.0) + where(2, (2 * u[:, 2] - 1) * math.pi, 0.0)
    if not augment.rotate:
        turn = torch.zeros_like(turn)
    scale = where(3, torch.exp2(0.2 * z[:, 3]), 1.0)
    aspect = where(4, torch.exp2(0.2 * z[:, 4]), 1.0)
    down, right = (where(5, 0.125 * z[:, i], 0.0) * 2 for i in (5, 6))
    x = _warped(x, flip, turn, scale, aspect, down, right)
    if not augment.color:
        return x
    brightness = where(7, 0.2 * z[:, 7], 0.0)
    contrast = where(8, torch.exp2(0.5 * z[:, 8]), 1.0)
    x = x * _each(contrast.to(x.dtype)) + _each(brightness.to(x.dtype))
    if x.shape[1] < 3:
        return x
    saturation = where(9, torch.exp2(z[:, 9]), 1.0)
    hue = where(10, (2 * u[:, 10] - 1) * math.pi, 0.0)
    colours = _coloured(saturation, hue).to(x.dtype)
    changed = torch.einsum("nij,njhw->nihw", colours, x[:, :3])
    return changed if x.shape[1] == 3 else torch.cat([changed, x[:, 3:]], dim=1)


def _warped(
    x: Tensor, flip: Tensor, turn: Tensor, scale: Tensor, aspect: Tensor, down: Tensor, right: Tensor
) -> Tensor:
    """x turned, mirrored, scaled and moved, (N,) each; the moves on the scale of -1 to 1. Beyond the edge the picture
    is mirrored."""
    _, _, height, width = x.shape
    cos, sin = turn.cos(), turn.sin()
    # From a place of the new picture to that of the old one, where both axes are as long as they are in pixels.
    across, along = flip / (scale * aspect), aspect / scale
    tall = height / width
    theta = torch.stack(
        [
            torch.stack([across * cos, -across * sin * tall, right], dim=1),
            torch.stack([along * sin / tall, along * cos, down], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta.to(x.dtype), [*x.shape], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _coloured(saturation: Tensor, hue: Tensor) -> Tensor:
    """(N, 3, 3): turns colours around the axis of greys by ``hue`` and stretches them from it by ``saturation``."""
    axis = torch.full((3, 3), _THIRD, dtype=hue.dtype, device=hue.device)
    root = math.sqrt(_THIRD)
    cross = torch.tensor(
        [[0.0, -root, root], [root, 0.0, -root], [-root, root, 0.0]], dtype=hue.dtype, device=hue.device
    )
    rest = torch.eye(3, dtype=hue.dtype, device=hue.device) - axis
    turned = hue.cos()[:, None, None] * rest + hue.sin()[:, None, None] * cross
    return axis + saturation[:, None, None] * turned
