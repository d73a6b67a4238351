"""ResNet-20 and -56 for CIFAR-10 (He et al. 2016, section 4.2; identity shortcuts, "option A"), as trained by
akamaster's pytorch_resnet_cifar10."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.errors import UserError
from limner.features.extractor import AS_RGB, Extractor, Images, as_rgb
from limner.features.weights import fill, find, read

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut that subsamples and pads channels with zeros where the shape changes."""

    def __init__(self, planes_in: int, planes: int) -> None:
        super().__init__()
        self.stride = 1 if planes_in == planes else 2
        self.grow = planes - planes_in
        self.conv1 = nn.Conv2d(planes_in, planes, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.grow:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.grow // 2, self.grow // 2))
        return F.relu(h + x)


class ResNet(nn.Module):
    """(N, 3, 32, 32), normalised, to features (N, 64), the pooled last stage, or logits (N, 10)."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks)
        self.layer2 = self._stage(16, 32, blocks)
        self.layer3 = self._stage(32, 64, blocks)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(planes_in: int, planes: int, blocks: int) -> nn.Sequential:
        return nn.Sequential(Block(planes_in, planes), *(Block(planes, planes) for _ in range(blocks - 1)))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Those behind the first convolution and the three stages; any size of pictures will do."""
        maps = [F.relu(self.bn1(self.conv1(x)))]
        for stage in (self.layer1, self.layer2, self.layer3):
            maps.append(stage(maps[-1]))
        return maps

    def features(self, x: Tensor) -> Tensor:
        return self.maps(x)[-1].mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.features(x))
        return out


def network(weights: Path | None) -> tuple[ResNet, str]:
    """The network with its weights, and their fingerprint; the depth is read off the weights."""
    path = find("resnet-cifar", weights)
    tensors = read(path)
    blocks = len({name.split(".")[1] for name in tensors if name.startswith("layer1.")})
    if not 1 <= blocks <= 200:
        raise UserError(f"{path} is not the weights of a CIFAR ResNet: it lacks the blocks of layer1")
    net = ResNet(blocks)
    return net, fill(net, tensors, path)


def normalised(x: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) in [0, 1] as the network sees them."""
    mean, std = (torch.tensor(v, device=x.device).reshape(1, 3, 1, 1) for v in (_MEAN, _STD))
    return (x - mean) / std


def load(weights: Path | None, device: torch.device) -> Extractor:
    """The extractor ``resnet-cifar``: RGB at 32×32; the depth is read off the weights."""
    net, digest = network(weights)
    net.to(device)

    def prepare(images: Images) -> Tensor:
        x = as_rgb(images, device) / 255.0
        if x.shape[2:] != (32, 32):
            x = F.interpolate(x, size=(32, 32), mode="bilinear", antialias=True)
        return normalised(x)

    return Extractor(
        name="resnet-cifar",
        dim=64,
        fingerprint=digest,
        resizer=f"32x32 (others: bilinear antialiased); {AS_RGB}",
        channels=(1, 3, 4),
        forward=lambda images: net.features(prepare(images)),
        logits=lambda images: net(prepare(images)),
        head=lambda features: net.linear(features.to(device)),
        classes=_CLASSES,
    )
