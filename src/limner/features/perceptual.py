"""Networks through which a training looks at how pictures differ: maps of features, with gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.errors import UserError
from limner.features.squeezenet import MEAN_BGR, POOL_AFTER, network, pool
from limner.files import expanded

#: Smaller pictures are enlarged to so many pixels first: the network halves them four times.
_SMALLEST = 64


class SqueezeMaps(nn.Module):
    """Pictures (N, C, H, W) in [0, 1] to the maps behind SqueezeNet's first convolution and its fires 3, 5, 7 and 9;
    grey is repeated, and alpha is left out."""

    def __init__(self, name: str = "squeezenet") -> None:
        super().__init__()
        _, _, file = name.partition("=")
        self.net = network(expanded(file) if file else None)[0].requires_grad_(False)
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(MEAN_BGR).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = x[:, :3].expand(-1, 3, -1, -1) if x.shape[1] < 3 else x[:, :3]
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


def perceptual(name: str) -> nn.Module | None:
    """The network of that name, None for "".

    Raises:
        UserError: a network whose maps nobody gives, or missing weights.
    """
    if not name:
        return None
    if name.partition("=")[0] != "squeezenet":
        raise UserError(f"objective.extractor '{name}' gives no maps of features; squeezenet does, and '' is none")
    return SqueezeMaps(name)
