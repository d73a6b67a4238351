from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limner import random
from limner.contracts import Condition, ImageSpec
from limner.models import StyleGAN2Config
from limner.models.layers import BatchSpread
from limner.models.stylegan2 import Modulated, StyleGAN2Generator

SPEC = ImageSpec(1, (28, 28), "L")


def noise(name: str, shape: tuple[int, ...]) -> Tensor:
    return random.normal(0, torch.arange(5), name, shape=shape)


def by_weights(layer: Modulated, x: Tensor, style: Tensor) -> Tensor:
    """As the paper puts it: weights of each picture's own, of unit length, and a filter behind moves of two; and as
    large as an activation wants."""
    out = []
    for one, told in zip(x, layer.affine(style), strict=True):
        weight = layer.weight * layer.scale * told[:, None, None]
        if layer.demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if layer.up:
            kernel = torch.outer(*[torch.tensor([1.0, 3.0, 3.0, 1.0]).double() / 8] * 2)
            h = F.conv_transpose2d(one[None], weight.transpose(0, 1), stride=2)
            h = F.conv2d(h, 4 * kernel.expand(h.shape[1], 1, 4, 4), padding=1, groups=h.shape[1])
        else:
            h = F.conv2d(one[None], weight, padding=layer.side // 2)
        out.append(h)
    return torch.cat(out) * (math.sqrt(2) if layer.demodulate else 1.0)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize("side", [1, 3])
def test_modulated_activations_are_modulated_weights(up: bool, demodulate: bool, side: int) -> None:
    if up and side == 1:
        pytest.skip("only kernels of 3 go up")
    layer = Modulated(5, 4, 6, side, up=up, demodulate=demodulate).double()
    x, style = torch.randn(3, 5, 7, 6).double(), torch.randn(3, 6).double()
    out = layer(x, style)
    assert out.shape[2:] == ((14, 12) if up else (7, 6))
    torch.testing.assert_close(out, by_weights(layer, x, style), rtol=1e-6, atol=1e-7)


def generator(*, noisy: bool = False) -> StyleGAN2Generator:
    torch.manual_seed(0)
    return StyleGAN2Config(width=8, code=16, most=16, noise=noisy).generator(SPEC, 3)


@torch.no_grad()
def test_a_style_for_each_layer() -> None:
    """The same style everywhere draws what one style draws; and every place counts."""
    net, cond = generator(), Condition(torch.arange(5) % 3)
    w = net.latent(torch.randn(5, 16), cond)
    drawn = net.synthesize(w, cond, noise)
    each = w[:, None].repeat(1, net.styles, 1)
    torch.testing.assert_close(net.synthesize(each, cond, noise), drawn)
    for place in range(net.styles):
        other = each.clone()
        other[:, place] = w.flip(0)
        assert float((net.synthesize(other, cond, noise) - drawn).abs().max()) > 1e-4, place


@torch.no_grad()
def test_the_centre_is_the_mean_style_of_a_class() -> None:
    net = generator()
    z, cond = torch.randn(600, 16), Condition(torch.arange(600) % 3)
    net.settle(z, cond)
    styles = net.latent(z, cond)
    for label in range(3):
        expected = styles[cond.label == label].mean(0)
        torch.testing.assert_close(net.center(Condition(torch.tensor([label])))[0], expected)


@torch.no_grad()
def test_noise_is_what_a_code_leaves_open() -> None:
    net, cond = generator(noisy=True).double(), Condition(torch.zeros(5, dtype=torch.int64))
    w = net.latent(torch.randn(1, 16).double().expand(5, -1), cond)
    drawn = net.synthesize(w, cond, noise)
    torch.testing.assert_close(drawn[:1].expand_as(drawn), drawn)
    for name, part in net.named_parameters():
        if name.endswith(".noise"):
            part.fill_(0.5)
    drawn = net.synthesize(w, cond, noise)
    assert float((drawn[0] - drawn[1]).abs().max()) > 0.05


def test_the_spread_of_a_batch() -> None:
    x = torch.randn(6, 4, 3, 3).double()
    expected = x.var(0, unbiased=False).add(1e-8).sqrt().mean()
    out = BatchSpread()(x)
    torch.testing.assert_close(out, expected.expand(6, 1, 3, 3))
    assert float(BatchSpread()(x[:1].expand(6, -1, -1, -1)).max()) < 1.1e-4
