"""SqueezeNet 1.0 (Iandola et al. 2016, table 1), ImageNet weights in Caffe's convention: BGR minus a mean, 227×227."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.features.extractor import AS_RGB, Extractor, Images, as_rgb
from limner.features.weights import fill, find, read

MEAN_BGR = (104.0, 117.0, 123.0)
#: fire module: channels in, squeezed, each half of what comes out.
_FIRES: dict[str, tuple[int, int, int]] = {
    "fire2": (96, 16, 64),
    "fire3": (128, 16, 64),
    "fire4": (128, 32, 128),
    "fire5": (256, 32, 128),
    "fire6": (256, 48, 192),
    "fire7": (384, 48, 192),
    "fire8": (384, 64, 256),
    "fire9": (512, 64, 256),
}
POOL_AFTER = ("fire4", "fire8")


class Fire(nn.Module):
    """Squeeze by 1×1, expand by 1×1 and 3×3 side by side."""

    def __init__(self, channels: int, squeezed: int, half: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1 = nn.Conv2d(squeezed, half, 1)
        self.expand3 = nn.Conv2d(squeezed, half, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1(h)), F.relu(self.expand3(h))], dim=1)


class SqueezeNet(nn.Module):
    """(N, 3, 227, 227) BGR minus the mean, to features (N, 512), pooled over fire9, or logits (N, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 7, stride=2)
        self.fires = nn.ModuleDict({name: Fire(*sizes) for name, sizes in _FIRES.items()})
        self.conv_final = nn.Conv2d(512, 1000, 1)

    def maps(self, x: Tensor) -> Tensor:
        h = pool(F.relu(self.conv1(x)))
        for name, fire in self.fires.items():
            h = fire(h)
            if name in POOL_AFTER:
                h = pool(h)
        return h

    def features(self, x: Tensor) -> Tensor:
        return self.maps(x).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv_final(self.maps(x))).mean(dim=(2, 3))


def pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2, ceil_mode=True)


def _names(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Names in the published file to names here: fire2/conv1x1_1 squeezes, _2 expand."""
    parts = {"conv1x1_1": "squeeze", "conv1x1_2": "expand1", "conv3x3_2": "expand3"}
    out = {}
    for name in tensors:
        fire, slash, rest = name.partition("/")
        layer, _, what = rest.partition(".")
        if slash and layer in parts:
            out[name] = f"fires.{fire}.{parts[layer]}.{what}"
    return out


def network(weights: Path | None) -> tuple[SqueezeNet, str]:
    """The network with its weights, and their fingerprint."""
    path = find("squeezenet", weights)
    tensors = read(path)
    net = SqueezeNet()
    return net, fill(net, tensors, path, _names(tensors))


def load(weights: Path | None, device: torch.device) -> Extractor:
    """The extractor ``squeezenet``: RGB of any size, at 227×227."""
    net, digest = network(weights)
    net.to(device)
    mean = torch.tensor(MEAN_BGR, device=device).reshape(1, 3, 1, 1)

    def prepare(images: Images) -> Tensor:
        x = F.interpolate(as_rgb(images, device), size=(227, 227), mode="bilinear", antialias=True)
        return x.flip(1) - mean

    return Extractor(
        name="squeezenet",
        dim=512,
        fingerprint=digest,
        resizer=f"bilinear antialiased 227x227; {AS_RGB}",
        channels=(1, 3, 4),
        forward=lambda images: net.features(prepare(images)),
        logits=lambda images: net(prepare(images)),
        limits="the precision of squeezenet rose again under strong noise on real photographs; its Fréchet distance "
        "did not miss it",
    )
