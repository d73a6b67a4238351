"""Networks through which a training looks at how pictures differ: maps of features, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.errors import UserError
from limner.features import hub, inception, lenet, resnet
from limner.features.squeezenet import MEAN_BGR, POOL_AFTER, SqueezeNet, network, pool
from limner.files import expanded

#: Smaller pictures are enlarged to so many pixels first: these networks halve them four and five times.
_SMALLEST, _SMALLEST_INCEPTION = 64, 128
#: Of a transformer's layers, where it is looked at.
_DEPTHS = (0.25, 0.5, 0.75, 1.0)


Net = TypeVar("Net", bound=nn.Module)


class Maps(nn.Module, Generic[Net]):
    """Pictures (N, C, H, W) in [0, 1] to maps (N, D, h, w) of a network that never changes; grey is repeated, and alpha
    is left out. Its weights lie in a file of their own: checkpoints do not hold them."""

    net: Net

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        return super().train(False)  # norms as they were learned

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        return {} if destination is None else destination

    def forward(self, x: Tensor) -> list[Tensor]:
        raise NotImplementedError


class SqueezeMaps(Maps[SqueezeNet]):
    """The maps behind SqueezeNet's first convolution and its fires 3, 5, 7 and 9."""

    def __init__(self, weights: str | None = None) -> None:
        super().__init__(network(_file(weights))[0])
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(MEAN_BGR).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = _enlarged(_rgb(x), _SMALLEST)
        h = F.relu(self.net.conv1(255 * x.flip(1) - self.mean))
        maps, h = [h], pool(h)
        for name, fire in self.net.fires.items():
            h = fire(h)
            if name in ("fire3", "fire5", "fire7", "fire9"):
                maps.append(h)
            if name in POOL_AFTER:
                h = pool(h)
        return maps


class ResNetMaps(Maps[resnet.ResNet]):
    """The maps behind the first convolution and the stages of ``resnet-cifar``, at the pictures' own size."""

    def __init__(self, weights: str | None = None) -> None:
        super().__init__(resnet.network(_file(weights))[0])

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.net.maps(resnet.normalised(_rgb(x)))


class LeNetMaps(Maps[lenet.LeNet]):
    """The maps behind the three convolutions of ``lenet``, of pictures as 28x28 grey."""

    def __init__(self, weights: str | None = None) -> None:
        super().__init__(lenet.network(_file(weights))[0])

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.net.maps(lenet.framed(_rgb(x).mean(1, keepdim=True)))


class InceptionMaps(Maps[inception.Inception]):
    """The maps of ``inception`` before it halves them, and its last ones, at the pictures' own size."""

    def __init__(self, weights: str | None = None) -> None:
        super().__init__(inception.network(_file(weights))[0])

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.net.maps(inception.scaled(255 * _enlarged(_rgb(x), _SMALLEST_INCEPTION)))


class VisionMaps(Maps[Any]):
    """The patches' tokens of a vision transformer behind each quarter of its layers, as maps; pictures are brought to
    the size at which it judges."""

    def __init__(self, eyes: hub.Eyes) -> None:
        super().__init__(eyes.net)
        self.side, self.scale = eyes.side, eyes.scale

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.interpolate(_rgb(x), size=(self.side, self.side), mode="bicubic", antialias=True)
        layers = self.net(pixel_values=hub.scaled(x, self.scale), output_hidden_states=True).hidden_states
        rows = self.side // self.net.config.patch_size
        last = len(layers) - 1
        tokens = [layers[max(1, round(depth * last))][:, -rows * rows :] for depth in _DEPTHS]
        return [one.transpose(1, 2).unflatten(2, (rows, rows)) for one in tokens]


def _file(weights: str | None) -> Path | None:
    return None if weights is None else expanded(weights)


def _enlarged(x: Tensor, smallest: int) -> Tensor:
    shorter = min(x.shape[2:])
    return x if shorter >= smallest else F.interpolate(x, scale_factor=smallest / shorter, mode="bilinear")


def _rgb(x: Tensor) -> Tensor:
    return x[:, :3].expand(-1, 3, -1, -1) if x.shape[1] < 3 else x[:, :3]


_MAPS: dict[str, Callable[[str | None], Maps[Any]]] = {
    "squeezenet": SqueezeMaps,
    "resnet-cifar": ResNetMaps,
    "lenet": LeNetMaps,
    "inception": InceptionMaps,
    "dinov2": lambda source: VisionMaps(hub.dinov2(source)),
    "clip": lambda source: VisionMaps(hub.clip(source)),
}
#: The networks that :func:`perceptual` knows.
PERCEPTUAL: tuple[str, ...] = tuple(_MAPS)


def perceptual(name: str) -> Maps[Any] | None:
    """The network of that name, or "name=FILE" with weights of one's own ("dinov2=FOLDER", as
    :func:`limner.features.load_extractor` takes them); None for "".

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
    return _MAPS[kind](file or None)
