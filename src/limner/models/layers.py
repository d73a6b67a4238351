"""What several networks are made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zeroed(layer: Layer) -> Layer:
    """The same layer with weights of zero: what it adds begins as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def last(layers: Iterable[Tensor]) -> Tensor:
    """The last of them; the others are forgotten as soon as the next one is there."""
    return deque(layers, maxlen=1).pop()


def padded(x: Tensor, side: int) -> Tensor:
    """x (N, C, H, W) with its right and lower edge repeated, up to multiples of ``side``."""
    pad = (-x.shape[3] % side, -x.shape[2] % side)
    return F.pad(x, (0, pad[0], 0, pad[1]), mode="replicate") if any(pad) else x


def to_multiple(value: float, of: int) -> int:
    """The nearest positive multiple."""
    return max(of, round(value / of) * of)
