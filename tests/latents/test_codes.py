"""What walks, inversions and directions promise, on generators whose pictures are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import limner
from limner.codecs import Identity
from limner.contracts import Condition, DecodeConfig, Generator, ImageSpec, Model, Noise, RefineConfig
from limner.errors import UserError
from limner.latents import along, invert_pictures, label_direction, lerp, semantic_directions, slerp, walk
from limner.models import DCGANConfig, R3GANConfig, ResidualGANConfig, StyleGAN2Config, VAEConfig
from limner.models.preconditioning import PRECONDITIONINGS, Preconditioned
from limner.models.unet import UNetConfig

SPEC = ImageSpec(1, (8, 8), "L")


class Linear(Generator):
    """Pictures are a matrix times the code, and a class is a brightness."""

    code = 6

    def __init__(self) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.linalg.qr(torch.randn(64, 6, generator=draws))[0])

    def hearing(self) -> list[Tensor]:
        return [self.matrix]

    def synthesize(self, w: Tensor, cond: Condition, noise: Noise) -> Tensor:
        light = 0.0 if cond.label is None else 0.1 * cond.label[:, None]
        return (0.3 * w @ self.matrix.T + light).reshape(-1, 1, 8, 8)


def model(net: Generator | None = None, labels: tuple[str, ...] = (), spec: ImageSpec = SPEC) -> Model:
    net = net or Linear()
    return Model(net.eval().requires_grad_(False), Identity(), spec, labels, DecodeConfig(), not labels)


def denoiser() -> Model:
    net = Preconditioned(UNetConfig(width=8).build(SPEC, 0, 1, jumps=False), PRECONDITIONINGS["flow"], 1.0, (0.0,))
    return Model(net, Identity(), SPEC, (), RefineConfig())


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.floats(0, 1))
def test_ways_begin_and_end_where_they_should(numbers: list[float], share: float) -> None:
    a, b = torch.tensor(numbers[:2]).double() + 0.01, torch.tensor(numbers[2:]).double() + 0.02
    at = torch.tensor([0.0, share, 1.0]).double()
    for way in (lerp, slerp):
        path = way(a, b, at)
        torch.testing.assert_close(path[0], a)
        torch.testing.assert_close(path[2], b)
        assert path.isfinite().all()
    torch.testing.assert_close(lerp(a, b, at)[1], a + share * (b - a))


@given(st.floats(0.05, math.pi - 0.05), st.floats(0, 1))
def test_a_great_circle_is_walked_evenly(angle: float, share: float) -> None:
    a = torch.tensor([2.0, 0.0]).double()
    b = 4 * torch.tensor([math.cos(angle), math.sin(angle)]).double()
    (at,) = slerp(a, b, torch.tensor([share]).double())
    assert float(at.norm()) == pytest.approx(2 + 2 * share)
    assert float(torch.atan2(at[1], at[0])) == pytest.approx(share * angle, abs=1e-7)


@pytest.mark.parametrize("how", ["slerp", "lerp", "w"])
@pytest.mark.parametrize("labels", [(), ("a", "b")])
def test_a_walk_passes_the_pictures_that_sample_draws(how: str, labels: tuple[str, ...]) -> None:
    one = model(labels=labels)
    drawn = walk(one, [3, 5, 0], frames=4, how=how, label="b" if labels else None, seed=7)
    assert drawn.shape == (9, 8, 8, 1)
    sampled = limner.sample(one, 6, label="b" if labels else None, seed=7)
    for at, number in ((0, 3), (4, 5), (8, 0)):
        assert np.abs(drawn[at].astype(int) - sampled[number]).max() <= 1
    assert not np.array_equal(drawn[1], drawn[2])


def test_walks_refuse_what_cannot_be() -> None:
    with pytest.raises(UserError, match="two pictures or more"):
        walk(model(), [1])
    with pytest.raises(UserError, match="did you mean 'lerp'"):
        walk(model(), [1, 2], how="lerb")
    with pytest.raises(UserError, match="decode a code"):
        walk(denoiser(), [1, 2])


@pytest.mark.parametrize("space", ["w", "z"])
def test_a_drawn_picture_is_found_again(space: str) -> None:
    one = model(labels=("a", "b"))
    drawn = torch.from_numpy(limner.sample(one, 4, label=[0, 1, 1, 0], seed=3)).permute(0, 3, 1, 2) / 127.5 - 1
    found = invert_pictures(one, drawn, space=space, steps=200, label=[0, 1, 1, 0])  # type: ignore[arg-type]
    assert found.w.shape == (4, 6)
    assert float(found.psnr.min()) > 40
    again = invert_pictures(one, drawn[1:2], space=space, steps=200, label=1)  # type: ignore[arg-type]
    torch.testing.assert_close(again.w[0], found.w[1], rtol=0, atol=1e-3)


def test_an_inversion_beats_the_nearest_code_also_of_a_network() -> None:
    torch.manual_seed(0)
    net = StyleGAN2Config(width=8, code=8, most=16).generator(ImageSpec(1, (16, 16), "L"), 0)
    one = model(net, spec=ImageSpec(1, (16, 16), "L"))
    target = torch.from_numpy(limner.sample(one, 600, seed=11)[599:]).permute(0, 3, 1, 2) / 127.5 - 1
    begun = invert_pictures(one, target, steps=1, rate=1e-6)
    found = invert_pictures(one, target, steps=150)
    assert float(found.psnr) > float(begun.psnr) + 6


@pytest.mark.parametrize("space", ["w", "z"])
def test_an_inversion_begins_with_what_an_autoencoder_knows(space: str) -> None:
    torch.manual_seed(0)
    net = VAEConfig(width=4, code=6, couplings=2).generator(SPEC, 2)
    for weight in net.parameters():
        nn.init.normal_(weight, 0, 0.2)
    pictures, label = torch.rand(3, 1, 8, 8) * 2 - 1, [1, 0, 1]
    begun = invert_pictures(model(net, ("a", "b")), pictures, space=space, steps=1, rate=1e-6, label=label)  # type: ignore[arg-type]
    mean, _ = net.posterior(pictures, Condition(torch.tensor(label)))
    torch.testing.assert_close(begun.w, mean, rtol=1e-4, atol=1e-4)


def test_inversions_refuse_other_shapes() -> None:
    with pytest.raises(UserError, match="bring them to it first"):
        invert_pictures(model(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(UserError, match="decode a code"):
        invert_pictures(denoiser(), torch.zeros(1, 1, 8, 8))


def test_directions_are_those_that_layers_hear_most() -> None:
    net = Linear()
    scales = torch.tensor([1.0, 5.0, 2.0, 0.5, 3.0, 4.0])
    with torch.no_grad():
        net.matrix.zero_()
        for i in range(6):  # rows are of unit length: as many rows as the scale says hear a number
            rows = range(8 * i, 8 * i + int(scales[i] * 1.6 + 0.5))
            net.matrix[rows, i] = 1.0
    found = semantic_directions(model(net), 3)
    expected = torch.eye(6)[[1, 5, 4]]
    torch.testing.assert_close(found, expected)
    with pytest.raises(UserError, match="count"):
        semantic_directions(model(), 7)


CONFIGS = {
    "dcgan": DCGANConfig(width=4, code=6, most=8),
    "residual": ResidualGANConfig(width=4, code=6, most=8),
    "chunks": ResidualGANConfig(width=4, code=7, most=8, spectral="both", attention=16, chunks=True),
    "stylegan2": StyleGAN2Config(width=4, code=6, most=8),
    "r3gan": R3GANConfig(width=4, code=6, most=8, group=4, bases=2),
    "vae": VAEConfig(width=4, code=6, couplings=2),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_generator_hears(name: str) -> None:
    """Moving a code along what no matrix hears changes nothing; along the first direction, much."""
    torch.manual_seed(0)
    spec = ImageSpec(1, (16, 16), "L")
    net = CONFIGS[name].generator(spec, 3)
    for part in net.parameters():
        if not part.any():
            nn.init.normal_(part, 0.0, 0.1)
    one = model(net, ("a", "b", "c"), spec)
    assert all(part.shape[1] == net.code for part in net.hearing())
    images = along(one, semantic_directions(one, 2), reach=3, frames=3, label="c", seed=4)
    assert images.shape == (6, 16, 16, 1)
    assert np.array_equal(images[1], images[4])
    assert not np.array_equal(images[0], images[2])


def test_a_label_direction_tells_kinds_apart() -> None:
    """The normal of the plane between two kinds, also where codes are spread unevenly."""
    draws = torch.Generator().manual_seed(0)
    codes = torch.randn(4000, 3, generator=draws) * torch.tensor([1.0, 3.0, 0.3])
    normal = torch.tensor([1.0, 1.0, 0.0]) / math.sqrt(2)
    found = label_direction(codes, codes @ normal > 0.5)
    assert float(found @ normal) > 0.99
    with pytest.raises(UserError, match="of 10 pictures 1 are of this kind"):
        label_direction(codes[:10], torch.arange(10) == 3)
