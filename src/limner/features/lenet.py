"""LeNet-5 (LeCun et al. 1998) with ReLU and max pooling, as trained on MNIST by csinva's gan-vae-pretrained-pytorch."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.features.extractor import Extractor, Images, as_tensor
from limner.features.weights import fill, find, read


class LeNet(nn.Module):
    """(N, 1, 32, 32) in [0, 1] to features (N, 84), those after the last hidden layer's ReLU, or logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.f7 = nn.Linear(84, 10)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Those behind its three convolutions, (N, 6, 28, 28), (N, 16, 10, 10) and (N, 120, 1, 1)."""
        first = F.relu(self.c1(x))
        second = F.relu(self.c3(F.max_pool2d(first, 2)))
        return [first, second, F.relu(self.c5(F.max_pool2d(second, 2)))]

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.f6(self.maps(x)[-1].flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.f7(self.features(x))
        return out


def network(weights: Path | None) -> tuple[LeNet, str]:
    """The network with its weights, and their fingerprint."""
    path = find("lenet", weights)
    tensors = read(path)
    net = LeNet()
    names = {name: name.split(".", 1)[1] for name in tensors if name.startswith(("convnet.", "fc."))}
    return net, fill(net, tensors, path, names)


def framed(x: Tensor) -> Tensor:
    """Grey pictures (N, 1, H, W) as the network sees them: at 28x28, zero padded to 32x32."""
    if x.shape[2:] != (28, 28):
        x = F.interpolate(x, size=(28, 28), mode="bilinear", antialias=True)
    return F.pad(x, (2, 2, 2, 2))


def load(weights: Path | None, device: torch.device) -> Extractor:
    """The extractor ``lenet``: 28×28 grey, zero padded to 32×32; other sizes are first resized to 28×28."""
    net, digest = network(weights)
    net.to(device)

    def prepare(images: Images) -> Tensor:
        return framed(as_tensor(images, device))

    return Extractor(
        name="lenet",
        dim=84,
        fingerprint=digest,
        resizer="28x28 (others: bilinear antialiased), zero padded to 32x32",
        channels=(1,),
        forward=lambda images: net.features(prepare(images)),
        logits=lambda images: net(prepare(images)),
        head=lambda features: net.f7(features.to(device)),
        classes=tuple("0123456789"),
        limits="lenet sees digits through noise: its precision rose with noise on real digits, and its coverage "
        "overlooked a slight blur; its Fréchet distance answered to both",
    )
