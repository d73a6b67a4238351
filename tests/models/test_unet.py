"""The U-Net's parts; the whole of it is tested beside its preconditioning in test_preconditioning.py."""

from __future__ import annotations

from dataclasses import replace
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
from limner.models.embedding import NoiseFeatures
from limner.models.unet import Attention, Block

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


def built(config: UNetConfig, channels: int = 1, size: tuple[int, int] = (8, 8), classes: int = 3) -> UNet:
    """With random weights everywhere, also where training begins at zero."""
    net = UNet(config, ImageSpec(channels, size, "L"), classes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
    return net.eval()


SMALL = UNetConfig(width=8, multipliers=(1, 2), blocks=1, attention=(1,), unshuffle=2)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 33),
    st.integers(1, 33),
    st.sampled_from([1, 3, 4]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([(1,), (1, 2), (1, 1, 2)]),
)
def test_any_size_and_depth(
    height: int, width: int, channels: int, unshuffle: int, multipliers: tuple[int, ...]
) -> None:
    config = UNetConfig(width=8, multipliers=multipliers, unshuffle=unshuffle, blocks=1, attention=(0,))
    net = built(config, channels, (height, width))
    x = torch.ones(2, channels, height, width)
    out = net(x, torch.zeros(2), torch.tensor([0, 2]))
    assert out.shape == x.shape
    assert bool(out.isfinite().all())


def test_training_begins_at_zero_and_reaches_every_parameter() -> None:
    net = UNet(SMALL, ImageSpec(3, (8, 8), "RGB"), 3)
    x, noise, label = torch.randn(4, 3, 8, 8), torch.rand(4), torch.tensor([-1, 0, 1, 2])
    assert not bool(net(x, noise, label).any())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):  # what lies behind a zero layer moves once that layer has
        optimizer.zero_grad()
        (net(x, noise, label) - x).square().mean().backward()
        optimizer.step()
    still = [name for name, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert not still


def test_the_null_label_is_no_label() -> None:
    net, x, noise = built(SMALL), torch.randn(2, 1, 8, 8), torch.rand(2)
    assert torch.equal(net(x, noise, None), net(x, noise, torch.tensor([-1, -1])))
    assert not torch.equal(net(x, noise, None), net(x, noise, torch.tensor([0, 0])))


def test_label_level_and_picture_all_matter_and_samples_do_not_meet() -> None:
    net = built(SMALL)
    x, noise, label = torch.randn(5, 1, 8, 8), torch.rand(5), torch.tensor([0, 1, 2, -1, 0])
    out = net(x, noise, label)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(net(x[order], noise[order], label[order]), out[order])
    changed = x.clone()
    changed[0] += 1
    moved = (net(changed, noise, label) - out).detach().abs().amax(dim=(1, 2, 3))
    assert float(moved[0]) > 1e-3
    assert float(moved[1:].max()) < 1e-5
    assert not torch.allclose(net(x, noise + 0.3, label), out)


def test_double_precision() -> None:
    net, x = built(SMALL), torch.randn(2, 1, 8, 8)
    single = net(x, torch.tensor([0.1, 0.7]), None)
    torch.testing.assert_close(net.double()(x.double(), torch.tensor([0.1, 0.7]).double(), None).float(), single)


@pytest.mark.parametrize(("size", "fold"), [((28, 28), 2), ((32, 32), 2), ((64, 48), 4), ((96, 96), 8), ((11, 7), 1)])
def test_the_stem_fits_itself_to_the_pictures(size: tuple[int, int], fold: int) -> None:
    config = UNetConfig(width=8).fitted(size)
    assert config.unshuffle == fold
    assert max(size) / fold < 24
    assert UNetConfig(width=8, unshuffle=1).fitted(size).unshuffle == 1
    net = UNet(UNetConfig(width=8), ImageSpec(1, size, "L"), 0)
    assert net.unshuffle == fold


@pytest.mark.parametrize("side", [768, 1535, 1536, 4096])
def test_a_stem_for_large_pictures_stays_within_its_bounds(side: int) -> None:
    assert UNetConfig(width=8).fitted((64, side)).unshuffle == 64


def test_checkpointing_changes_neither_answer_nor_gradients() -> None:
    """With a dropout, whose noise is drawn again when a block is computed again."""
    results = []
    for checkpointing in (False, True):
        net = built(replace(SMALL, dropout=0.3, checkpointing=checkpointing)).train()
        x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        torch.manual_seed(3)
        loss = net(x, torch.zeros(2), None).square().sum()
        loss.backward()
        results.append([loss, *(p.grad for p in net.parameters() if p.grad is not None)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
