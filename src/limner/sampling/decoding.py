"""How a generator draws: one pass over a code."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limner import random
from limner.contracts import Condition, DecodeConfig, Generator, Model
from limner.errors import UserError


def checked(model: Model, config: DecodeConfig, guide: Model | None) -> None:
    """Raises a UserError where another model is to guide this one."""
    if guide is not None:
        raise UserError("a model that guides is for models that refine noise; leave --guide out")


def decoded(
    model: Model, cond: Condition, samples: Tensor, config: DecodeConfig, *, seed: int, guide: Model | None
) -> Tensor:
    """The latents (N, C, H, W) of the samples of the given global indices."""
    assert isinstance(model.net, Generator)
    net = model.net

    def noise(name: str, shape: tuple[int, ...]) -> Tensor:
        return random.normal(seed, samples, name, shape=shape)

    z = codes(seed, samples, net.code, config.cut)
    return net.synthesize(truncated(net, net.latent(z, cond), cond, config.truncation), cond, noise)


def codes(seed: int, samples: Tensor, length: int, cut: float = 0.0) -> Tensor:
    """(N, length) standard normal, cut at ``cut`` standard deviations unless that is 0: by inverse CDF of uniforms that
    the cut does not change."""
    if not cut:
        return random.normal(seed, samples, "init", shape=(length,))
    inside = math.erf(cut / math.sqrt(2))
    uniform = random.uniform(seed, samples, "init", shape=(length,)).double()
    return (math.sqrt(2) * torch.erfinv((2 * uniform - 1) * inside)).clamp(-cut, cut).float()


def truncated(net: Generator, w: Tensor, cond: Condition, truncation: float) -> Tensor:
    """w drawn to its mean (Karras et al. 2019, section B)."""
    if truncation == 1:
        return w
    center = net.center(cond)
    return center + truncation * (w - center)
