"""Networks through which a training looks: the same ones that judge, as maps with gradients."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from limner.errors import UserError
from limner.features import load_extractor
from limner.features.inception import Inception
from limner.features.perceptual import LeNetMaps, ResNetMaps, perceptual
from limner.objectives.reconstruction import apart

transformers = pytest.importorskip("transformers", reason="the extra 'hub' is not installed")
real_data = pytest.mark.skipif(not os.environ.get("LIMNER_MIRROR"), reason="LIMNER_MIRROR names no folder with weights")
NAMES = ("squeezenet", "resnet-cifar", "lenet")


@real_data
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 40, 33), (4, 9, 50)])
def test_what_is_spoilt_more_lies_further_and_pulls_back(name: str, shape: tuple[int, int, int]) -> None:
    maps = perceptual(name)
    assert maps is not None
    truth = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2))
    spoilt = [(truth + by * noise).requires_grad_() for by in (0.0, 0.1, 0.5)]
    told = [apart(maps, one, truth) for one in spoilt]
    assert told[0].item() == pytest.approx(0, abs=1e-6)
    assert float(told[1]) < float(told[2])
    told[1].backward()  # type: ignore[no-untyped-call]
    slope = spoilt[1].grad
    assert slope is not None
    assert float((slope * noise)[:, :3].sum()) > 0
    assert all(p.grad is None for p in maps.parameters())


def vision(name: str, folder: Path) -> str:
    """A small one of random weights, by the name that takes it."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "patch_size": 14}
    if name == "dinov2":
        net = transformers.Dinov2Model(transformers.Dinov2Config(**shape, image_size=518))
    else:
        net = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**shape, image_size=56))
    net.save_pretrained(folder)
    return f"{name}={folder}"


def random_inception(folder: Path) -> str:
    torch.manual_seed(0)
    torch.save(Inception().state_dict(), folder / "weights.pth")
    return f"inception={folder / 'weights.pth'}"


@pytest.mark.parametrize(
    ("name", "sides", "channels"),
    [
        ("inception", [61, 28, 13, 6, 2], [64, 192, 288, 768, 2048]),
        ("dinov2", [16] * 4, [32] * 4),
        ("clip", [4] * 4, [32] * 4),
    ],
)
def test_large_networks_look_too(name: str, sides: list[int], channels: list[int], tmp_path: Path) -> None:
    maps = perceptual(random_inception(tmp_path) if name == "inception" else vision(name, tmp_path))
    assert maps is not None
    truth = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    found = maps(truth)
    assert [one.shape for one in found] == [(2, c, side, side) for c, side in zip(channels, sides, strict=True)]
    spoilt = (truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(2))).requires_grad_()
    apart(maps, spoilt * 2 - 1, truth * 2 - 1).backward()  # type: ignore[no-untyped-call]
    assert spoilt.grad is not None
    assert float(spoilt.grad.abs().max()) > 0
    assert all(p.grad is None for p in maps.parameters())
    # What stands in the left half reaches the maps' left columns: tokens are put back where their patches were.
    left = truth.clone()
    left[..., :8] = 1 - left[..., :8]
    moved = (maps(left)[0] - found[0]).abs().sum(1).mean((0, 1))
    assert float(moved[0]) > float(moved[-1])


def test_checkpoints_hold_nothing_of_what_looks(tmp_path: Path) -> None:
    holder = torch.nn.ModuleDict({"own": torch.nn.Linear(2, 2), "maps": perceptual(vision("clip", tmp_path))})
    assert list(holder.state_dict()) == ["own.weight", "own.bias"]
    holder.to(torch.float64).train()
    assert not holder["maps"].net.training
    assert {p.dtype for p in holder.parameters()} == {torch.float64}


@real_data
def test_the_maps_are_those_of_the_judges() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    net = ResNetMaps().train()  # as a training has all it holds
    seen = net(x)[-1].mean((2, 3))
    torch.testing.assert_close(seen, load_extractor("resnet-cifar")(pictures), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(x[:1])[-1], net(x)[-1][:1], rtol=1e-4, atol=1e-5)
    digits = pictures[:, :28, :28, :1]
    lenet = LeNetMaps()
    features = torch.relu(lenet.net.f6(lenet(x[:, :1, :28, :28])[-1].flatten(1)))
    torch.testing.assert_close(features, load_extractor("lenet")(digits), rtol=1e-4, atol=1e-5)


def test_mistakes() -> None:
    assert perceptual("") is None
    with pytest.raises(UserError, match="squeezenet, resnet-cifar, lenet, inception, dinov2, clip do"):
        perceptual("wavelets")
    with pytest.raises(UserError, match="no weights for extractor 'lenet' at"):
        perceptual("lenet=/nowhere/at.all")
