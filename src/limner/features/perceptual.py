"""Networks through which a training looks at how pictures differ: maps of features, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.errors import UserError
from limner.features import lenet, resnet
from limner.features.squeezenet import MEAN_BGR, POOL_AFTER, network, pool
from limner.files import expanded

#: Smaller pictures are enlarged to so many pixels first: the network halves them four times.
_SMALLEST = 64


class SqueezeMaps(nn.Module):
    """Pictures (N, C, H, W) in [0, 1] to the maps behind SqueezeNet's first convolution and its fires 3, 5, 7 and 9;
    grey is repeated, and alpha is left out."""

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        self.net = network(weights)[0].requires_grad_(False)
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(MEAN_BGR).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = _rgb(x)
        shorter = min(x.shape[2:])
        if shorter < _SMALLEST:
            x = F.interpolate(x, scale_factor=_SMALLEST / shorter, mode="bilinear")
        h = F.relu(self.net.conv1(255 * x.flip(1) - self.mean))
        maps, h = [h], pool(h)
        for name, fire in self.net.fires.items():
            h = fire(h)
            if name in ("fire3", "fire5", "fire7", "fire9"):
                maps.append(h)
            if name in POOL_AFTER:
                h = pool(h)
        return maps


class ResNetMaps(nn.Module):
    """Pictures (N, C, H, W) in [0, 1] to the maps behind the first convolution and the stages of ``resnet-cifar``, at
    their own size; grey is repeated, and alpha is left out."""

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        self.net = resnet.network(weights)[0].requires_grad_(False)

    def train(self, mode: bool = True) -> ResNetMaps:
        return super().train(False)  # norms as they were learned

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.net.maps(resnet.normalised(_rgb(x)))


class LeNetMaps(nn.Module):
    """Pictures (N, C, H, W) in [0, 1] to the maps behind the three convolutions of ``lenet``, as 28x28 grey."""

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        self.net = lenet.network(weights)[0].requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.net.maps(lenet.framed(_rgb(x).mean(1, keepdim=True)))


def _rgb(x: Tensor) -> Tensor:
    return x[:, :3].expand(-1, 3, -1, -1) if x.shape[1] < 3 else x[:, :3]


_MAPS: dict[str, Callable[[Path | None], nn.Module]] = {
    "squeezenet": SqueezeMaps,
    "resnet-cifar": ResNetMaps,
    "lenet": LeNetMaps,
}


def perceptual(name: str) -> nn.Module | None:
    """The network of that name, or "name=FILE" with weights of one's own; None for "".

    Raises:
        UserError: a network whose maps nobody gives, or missing weights.
    """
    if not name:
        return None
    kind, _, file = name.partition("=")
    if kind not in _MAPS:
        raise UserError(
            f"objective.extractor '{name}' gives no maps of features; {', '.join(_MAPS)} do, and '' is none"
        )
    return _MAPS[kind](expanded(file) if file else None)
