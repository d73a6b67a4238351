"""Walks from one picture to another through the codes between them."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from limner.contracts import Model
from limner.errors import UserError, nearest, within
from limner.latents.codes import condition, drawn_codes, generator_of, synthesized
from limner.sampling.decoding import truncated
from limner.sampling.draw import as_they_draw, to_pixels

Walk = Literal["slerp", "lerp", "w"]
WALKS: tuple[str, ...] = get_args(Walk)
"""Ways between two codes: along the sphere, straight, or straight between the styles that they are mapped to."""


def lerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Straight from a to b, (T, ...), at the shares (T,) of the way."""
    return torch.lerp(a[None], b[None], share.reshape(-1, *[1] * a.ndim))


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """From a (K,) to b (K,) along a great circle, (T, K), at the shares (T,) of the way; lengths change evenly
    (Shoemake 1985). Normal codes lie near a sphere, and a straight way would leave it (White 2016).

    Opposite codes, which have no one way, go straight.
    """
    length_a, length_b = a.norm(), b.norm()
    angle = torch.arccos((a @ b / (length_a * length_b).clamp_min(1e-12)).clamp(-1, 1))
    sine = angle.sin()
    if float(sine) < 1e-4:
        return lerp(a, b, share)
    weight_a, weight_b = ((1 - share) * angle).sin() / sine, (share * angle).sin() / sine
    around: Tensor = weight_a[:, None] * (a / length_a) + weight_b[:, None] * (b / length_b)
    return around * torch.lerp(length_a, length_b, share)[:, None]


def walk(
    model: Model,
    numbers: list[int],
    *,
    frames: int = 8,
    how: str = "slerp",
    label: int | str | None = None,
    seed: int = 0,
    truncation: float | None = None,
) -> np.ndarray:
    """Pictures on the way from one picture to the next, ``(len(numbers) - 1) * frames + 1`` of them, (N, H, W, C).

    Args:
        model: a generator.
        numbers: of the pictures on the way, as :func:`limner.sample` numbers them under this seed.
        frames: from one of them to the next, that one not counted.
        how: one of :data:`WALKS`.
        label: the class of all; the first by default.
        seed: of the pictures.
        truncation: as for ``sample``; the model's own by default.

    Raises:
        UserError: settings out of range, or a model that refines noise.
    """
    if how not in WALKS:
        raise UserError(f"'{how}' is no way to walk{nearest(how, WALKS)}; there are {', '.join(WALKS)}")
    if len(numbers) < 2:
        raise UserError("a walk takes two pictures or more; give their numbers with --between 0 1")
    within("frames", frames, 1, 10_000)
    net = generator_of(model)
    ends = drawn_codes(model, numbers, seed)
    cond = condition(model, 1, label)
    psi = getattr(model.defaults, "truncation", 1.0) if truncation is None else truncation
    with torch.no_grad(), as_they_draw(net):
        if how == "w":
            ends = net.latent(ends, condition(model, len(ends), label))
        between = slerp if how == "slerp" else lerp
        share = torch.arange(frames, device=ends.device) / frames
        parts = [between(a, b, share) for a, b in pairwise(ends)]
        path = torch.cat([*parts, ends[-1:]])
        every = condition(model, len(path), label)
        w = path if how == "w" else net.latent(path, every)
        w = truncated(net, w, cond, psi)
    return to_pixels(synthesized(model, w, every, numbers[0], seed), model.spec.bits)
