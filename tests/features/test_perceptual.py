"""Networks through which a training looks: the same ones that judge, as maps with gradients."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from limner.errors import UserError
from limner.features import load_extractor
from limner.features.perceptual import LeNetMaps, ResNetMaps, perceptual
from limner.objectives.reconstruction import apart

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
    assert float(told[0]) == pytest.approx(0, abs=1e-6)
    assert float(told[1]) < float(told[2])
    told[1].backward()  # type: ignore[no-untyped-call]
    slope = spoilt[1].grad
    assert slope is not None
    assert float((slope * noise)[:, :3].sum()) > 0
    assert all(p.grad is None for p in maps.parameters())


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
    with pytest.raises(UserError, match="squeezenet, resnet-cifar, lenet do"):
        perceptual("wavelets")
    with pytest.raises(UserError, match="no weights for extractor 'lenet' at"):
        perceptual("lenet=/nowhere/at.all")
