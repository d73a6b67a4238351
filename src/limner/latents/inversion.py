"""The code that a generator would draw a picture from, by optimisation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.contracts import Autoencoding, Condition, Generator, Model
from limner.errors import UserError, within
from limner.latents.codes import condition, drawn_codes, generator_of, place_of, same_noise, synthesized
from limner.sampling.draw import as_they_draw

#: Random codes of which the nearest is begun with.
_BEGIN = 512


@dataclass(frozen=True)
class Inverted:
    """What was found.

    Attributes:
        w: (N, K) codes, as ``synthesize`` takes them.
        pictures: (N, C, H, W) that they draw, in [-1, 1] or near it.
        psnr: (N,) of these against the pictures asked for, in decibels.
    """

    w: Tensor
    pictures: Tensor
    psnr: Tensor


def invert_pictures(
    model: Model,
    pictures: Tensor,
    *,
    space: Literal["w", "z"] = "w",
    steps: int = 300,
    rate: float = 0.1,
    label: int | str | list[int] | None = None,
    seed: int = 0,
) -> Inverted:
    """Codes whose pictures are near those given: Adam on squared errors at several sizes, from the nearest of some
    random codes (Abdal et al. 2019, *Image2StyleGAN*, with errors of pixels in the place of a network's), or from the
    mean of an autoencoder's own.

    Args:
        model: a generator.
        pictures: (N, C, H, W) in [-1, 1], of the model's shape.
        space: which codes move: "w", which reaches more pictures, or "z", whose pictures stay likelier.
        steps: of the optimiser.
        rate: its first rate, in standard deviations of w; it falls to zero.
        label: the class of all, or of each by number; the first by default.
        seed: of the random codes, and of what a code leaves open.

    Raises:
        UserError: pictures of another shape, settings out of range, or a model that refines noise.
    """
    within("steps", steps, 1, 1_000_000)
    within("rate", rate, 1e-6, 1000)
    if tuple(pictures.shape[1:]) != model.spec.shape:
        raise UserError(
            f"the pictures have the shape {tuple(pictures.shape[1:])}, and the model draws {model.spec.shape} "
            "(channels, height, width): bring them to it first"
        )
    net, device = generator_of(model), place_of(model)
    target, cond = pictures.to(device).detach(), condition(model, len(pictures), label)
    noise = same_noise(0, seed, len(target), device)
    with as_they_draw(net):
        z, w = _begin(model, target, cond, seed)
        with torch.no_grad():
            unit = net.latent(drawn_codes(model, list(range(_BEGIN)), seed), _all(cond, _BEGIN)).std(0).mean()
        moving = (z if space == "z" else w).detach().clone().requires_grad_()
        scale = 1.0 if space == "z" else float(unit)
        optimizer = torch.optim.Adam([moving], lr=rate * scale)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = rate * scale * 0.5 * (1 + math.cos(math.pi * step / steps))
            drawn = model.codec.decode(net.synthesize(_w(net, moving, cond, space), cond, noise))
            loss = _apart(drawn, target).sum()
            if space == "z":
                loss = loss + 1e-4 * moving.square().sum()  # codes are normal: -ln p of them, at a small weight
            (slope,) = torch.autograd.grad(loss, moving)
            moving.grad = slope
            optimizer.step()
        with torch.no_grad():
            found = _w(net, moving.detach(), cond, space)
    drawn = synthesized(model, found, cond, 0, seed)
    error = (drawn.clamp(-1, 1) - target).square().flatten(1).mean(1).clamp_min(1e-12)
    return Inverted(found, drawn, 10 * torch.log10(4 / error))


def _w(net: Generator, moving: Tensor, cond: Condition, space: str) -> Tensor:
    return net.latent(moving, cond) if space == "z" else moving


def _apart(drawn: Tensor, target: Tensor) -> Tensor:
    """Squared errors (N,), of the pictures and of smaller ones, which know of shapes that are a little beside."""
    # As they are shown; slopes pass as if they were not cut, so that what lies beyond may come back.
    drawn = drawn + (drawn.clamp(-1, 1) - drawn).detach()
    total = (drawn - target).square().flatten(1).mean(1)
    while min(drawn.shape[2:]) >= 8:
        drawn, target = F.avg_pool2d(drawn, 2), F.avg_pool2d(target, 2)
        total = total + (drawn - target).square().flatten(1).mean(1)
    return total


def _all(cond: Condition, n: int, of: int = 0) -> Condition:
    """The class of the picture ``of``, n times."""
    return Condition(None if cond.label is None else cond.label[of].expand(n))


@torch.no_grad()
def _begin(model: Model, target: Tensor, cond: Condition, seed: int) -> tuple[Tensor, Tensor]:
    """Codes z and w, (N, code) and (N, K), to begin with."""
    net = generator_of(model)
    if isinstance(net, Autoencoding):
        w, _ = net.posterior(target, cond)
        return net.inverse_latent(w, cond)[0], w
    z = _nearest(model, target, cond, seed)
    return z, net.latent(z, cond)


@torch.no_grad()
def _nearest(model: Model, target: Tensor, cond: Condition, seed: int) -> Tensor:
    """Of some random codes, the one whose picture, in the class of each target, is nearest to it, (N, code)."""
    net, every = generator_of(model), drawn_codes(model, list(range(_BEGIN)), seed)
    found = torch.empty(len(target), every.shape[1], device=every.device)
    label = [0] * len(target) if cond.label is None else cond.label.tolist()
    for one in set(label):
        members = [i for i, own in enumerate(label) if own == one]
        same = _all(cond, _BEGIN, members[0])
        drawn = synthesized(model, net.latent(every, same), same, 0, seed)
        for member in members:
            found[member] = every[_apart(drawn, target[member : member + 1].expand_as(drawn)).argmin()]
    return found
