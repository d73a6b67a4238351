"""The U-Net's parts; the whole of it is tested beside its preconditioning in test_networks.py."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from limner import random
from limner.contracts import ImageSpec
from limner.errors import UserError
from limner.models import UNet, UNetConfig
from limner.models.unet import Attention, Block, NoiseFeatures

M = TypeVar("M", bound=nn.Module)


def shaken(module: M) -> M:
    """With random weights everywhere, also where training begins at zero."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    return module.requires_grad_(False).eval()


def noise_of(*shape: int) -> torch.Tensor:
    return random.normal(1, torch.arange(shape[0]), "test", shape=shape[1:])


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 90),
    st.sampled_from([(1,), (1, 2), (1, 2, 3), (3, 1)]),
    st.booleans(),
)
def test_any_width(width: int, multipliers: tuple[int, ...], attention: bool) -> None:
    """Group norm and heads want equal parts, noise features pairs; 72 x (1, 2, 4) used to fall over 432 = 13.5 x 32."""
    config = UNetConfig(width=width, multipliers=multipliers, attention=(0,) if attention else (), unshuffle=1)
    net = shaken(UNet(config, ImageSpec(1, (4, 4), "L"), 2))
    out = net(noise_of(2, 1, 4, 4), torch.tensor([0.0, 1.0]), torch.tensor([0, -1]))
    assert out.shape == (2, 1, 4, 4)
    assert bool(out.isfinite().all())


@pytest.mark.parametrize("channels", [8, 64, 128, 200])
def test_attention_by_the_formula(channels: int) -> None:
    """softmax(q kᵀ / sqrt(d)) v, head by head (Vaswani et al. 2017, equation 1), in plain loops."""
    attention, x = shaken(Attention(channels)).double(), noise_of(2, channels, 3, 2).double()
    normed = F.group_norm(x, attention.norm.num_groups, attention.norm.weight, attention.norm.bias)
    joint = F.conv2d(normed, attention.qkv.weight, attention.qkv.bias).flatten(2)
    d = channels // attention.heads
    assert d >= min(64, channels)
    mixed = []
    for head in range(attention.heads):
        q, k, v = (joint[:, part * channels + head * d :][:, :d] for part in range(3))
        weights = torch.softmax(q.mT @ k / d**0.5, dim=-1)
        mixed.append(v @ weights.mT)
    expected = x + F.conv2d(torch.cat(mixed, dim=1).unflatten(2, (3, 2)), attention.out.weight, attention.out.bias)
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize(("attention", "sees_all"), [((), False), ((0,), True)])
def test_only_attention_looks_across_the_picture(attention: tuple[int, ...], sees_all: bool) -> None:
    """A change in one corner of a wide picture, as it is seen in the other, beyond the reach of the convolutions."""
    config = UNetConfig(width=8, multipliers=(1,), attention=attention, unshuffle=1)
    net = shaken(UNet(config, ImageSpec(1, (4, 64), "L"), 0))
    # Group norm also looks at the whole picture: its statistics are taken out of the comparison.
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.GroupNorm):
            net.set_submodule(name, nn.Identity())
    x = 0.1 * noise_of(1, 1, 4, 64)
    moved = x.clone()
    moved[..., :2, :2] += 0.2
    far = (net(moved, torch.zeros(1), None) - net(x, torch.zeros(1), None))[..., -4:].abs().max()
    assert (float(far) > 0) is sees_all


def test_attention_stands_where_it_is_asked_for() -> None:
    net = UNet(UNetConfig(width=8, multipliers=(1, 2, 4), attention=(1,)), ImageSpec(1, (32, 32), "L"), 0)
    heads = {module.out.in_channels for module in net.modules() if isinstance(module, Attention)}
    assert heads == {16}
    with pytest.raises(UserError, match="the resolutions 0 to 1"):
        UNetConfig(multipliers=(1, 2), attention=(2,))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 0}, "net.width is 0"),
        ({"blocks": 65}, "net.blocks is 65"),
        ({"dropout": 1.0}, "net.dropout is 1"),
        ({"unshuffle": -1}, "net.unshuffle is -1"),
        ({"multipliers": ()}, "net.multipliers"),
        ({"multipliers": (1, 0)}, "net.multipliers"),
    ],
    ids=str,
)
def test_shapes_that_are_no_network(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        UNetConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (28, 28), (33, 20)])
def test_an_odd_size_is_a_whole_one_with_its_edge_repeated(unshuffle: int, size: tuple[int, int]) -> None:
    net = shaken(UNet(UNetConfig(width=8, multipliers=(1, 2), unshuffle=unshuffle), ImageSpec(3, size, "RGB"), 0))
    x, noise = noise_of(2, 3, *size), torch.tensor([0.2, -0.4])
    rows, columns = (torch.arange(-(-side // net.stride) * net.stride).clamp(max=side - 1) for side in size)
    whole = x[:, :, rows][:, :, :, columns]
    out = net(x, noise, None)
    assert out.shape == x.shape
    torch.testing.assert_close(out, net(whole, noise, None)[:, :, : size[0], : size[1]], rtol=1e-4, atol=1e-5)


def test_memory_layout_changes_nothing() -> None:
    net = shaken(UNet(UNetConfig(width=16, attention=(1,)), ImageSpec(3, (14, 14), "RGB"), 0))
    x, noise = noise_of(2, 3, 14, 14), torch.tensor([0.2, -0.4])
    plain = net(x, noise, None)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.testing.assert_close(
        net(x.contiguous(memory_format=torch.channels_last), noise, None), plain, rtol=1e-4, atol=1e-4
    )


def test_dropout_is_keyed_and_only_for_training() -> None:
    net = shaken(UNet(UNetConfig(width=8, dropout=0.5), ImageSpec(1, (8, 8), "L"), 0))
    x, noise = noise_of(2, 1, 8, 8), torch.zeros(2)
    assert torch.equal(net(x, noise, None), net(x, noise, None))
    net.train()
    drawn = []
    for seed in (1, 1, 2):
        with random.scoped(seed, "dropout"):
            drawn.append(net(x, noise, None))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_noise_features_tell_near_levels_and_far_ones_apart() -> None:
    """c_noise lies in [-1, 1] (flow) or about [-2.3, 2.3] (EDM's ln(sigma) / 4)."""
    levels = torch.linspace(-2.3, 2.3, 461)
    features = NoiseFeatures(32)(levels)
    torch.testing.assert_close(features.square().sum(dim=1), torch.full((461,), 16.0))
    gaps = torch.cdist(features, features) + 99 * torch.eye(461)
    assert float(gaps.min()) > 0.5


def test_adaptive_norm_begins_as_a_plain_one() -> None:
    """A scale of zero is the norm as it is, not nothing (Dhariwal and Nichol 2021, section 3)."""
    block = shaken(Block(8, 8, 4, 0.0, attention=False))
    x, quiet = noise_of(1, 8, 5, 5), torch.zeros(1, 4)
    block.affine.bias.zero_()
    inner = F.silu(block.norm1(block.conv0(F.silu(block.norm0(x)))))
    torch.testing.assert_close(block(x, quiet), x + block.conv1(inner))
