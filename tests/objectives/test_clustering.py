"""Colours are the means of what is near them, as k-means has it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from limner.contracts import Condition, ImageSpec
from limner.models import PaletteConfig
from limner.objectives import AdamWConfig, Batch, Clustering, Context

SPEC = ImageSpec(3, (16, 16), "RGB")


def clouds(n: int) -> Tensor:
    """Pictures (n, 3, 16, 16) of pixels in twelve clouds; the rarest has a 60th of the commonest's."""
    draws = torch.Generator().manual_seed(3)
    centres = torch.rand(12, 3, generator=draws) * 1.6 - 0.8
    shares = torch.linspace(1, 60, 12)
    which = torch.multinomial(shares, n * 256, replacement=True, generator=draws)
    pixels = centres[which] + 0.03 * torch.randn(n * 256, 3, generator=draws)
    return pixels.reshape(n, 16, 16, 3).movedim(-1, 1).contiguous()


def clustering(colours: int = 12) -> Clustering:
    torch.manual_seed(0)
    return Clustering(PaletteConfig(colours=colours).codec(SPEC), AdamWConfig())


def context(n: int, progress: float = 0.0) -> Context:
    return Context(0, torch.arange(n), "codec", progress, {}, batch=n)


def distance(x: Tensor, colours: np.ndarray) -> float:
    rows = x.movedim(1, -1).reshape(-1, 1, 3).numpy()
    return float(np.square(rows - colours[None]).sum(2).min(1).mean())


def test_it_comes_as_near_as_k_means() -> None:
    x, one = clouds(64), clustering()
    optimizer = torch.optim.Adam(one.parameters(), 0.02)
    steps = 300
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        part = x[torch.arange(step * 8, step * 8 + 8) % 64]
        at = context(8, step / steps)
        told = one.distance(Batch(part, Condition(), at.samples), at)
        told["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        one.followed(at, {"loss": told["loss"].detach()})
    rows = x.movedim(1, -1).reshape(-1, 3).numpy()
    peer = min(distance(x, kmeans2(rows, 12, seed=seed, minit="++")[0]) for seed in range(5))
    assert distance(x, one.codec.colours.detach().numpy()) <= 1.05 * peer
    assert float(told["use"]) == 1


def test_the_loss_is_the_distance_to_the_nearest_and_pulls_at_it_alone() -> None:
    x, one = clouds(2), clustering()
    told = one.distance(Batch(x, Condition(), torch.arange(2)), context(2))
    assert told["loss"].item() == pytest.approx(distance(x, one.codec.colours.detach().numpy()), rel=1e-5)
    told["loss"].backward()
    used = torch.zeros(12, dtype=torch.bool)
    used[one.codec.tokenize(x).unique()] = True
    slope = one.codec.colours.grad
    assert slope is not None
    assert torch.equal(slope.abs().sum(1) > 0, used)
    assert not used.all()


def test_idle_colours_go_where_pixels_are_worst_off_until_late() -> None:
    x, at = clouds(2), context(2)
    one = clustering()
    before = one.codec.colours.detach().clone()
    idle = torch.ones(12, dtype=torch.bool)
    idle[one.codec.tokenize(x).unique()] = False
    told = one.distance(Batch(x, Condition(), at.samples), at)
    one.followed(at, {"loss": told["loss"].detach()})
    moved = (one.codec.colours.detach() != before).any(1)
    assert moved.any()
    assert torch.equal(moved, idle)
    pixels = {tuple(row) for row in x.movedim(1, -1).reshape(-1, 3).tolist()}
    assert all(tuple(row) in pixels for row in one.codec.colours.detach()[moved].tolist())
    late, two = context(2, progress=0.9), clustering()
    told = two.distance(Batch(x, Condition(), late.samples), late)
    two.followed(late, {"loss": told["loss"].detach()})
    assert torch.equal(two.codec.colours.detach(), before)
    bad, three = context(2), clustering()
    three.distance(Batch(x, Condition(), bad.samples), bad)
    three.followed(bad, {"loss": torch.tensor(math.nan)})
    assert torch.equal(three.codec.colours.detach(), before)
    assert not three.codec.counts.any()


def test_no_more_colours_than_values() -> None:
    assert PaletteConfig(colours=512).codec(ImageSpec(1, (9, 9), "L")).tokens == 256
    assert PaletteConfig(colours=512).codec(ImageSpec(1, (9, 9), "L", 16)).tokens == 512
