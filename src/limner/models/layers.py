"""What several networks are made of."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zeroed(layer: Layer) -> Layer:
    """The same layer with weights of zero: what it adds begins as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def to_multiple(value: float, of: int) -> int:
    """The nearest positive multiple."""
    return max(of, round(value / of) * of)
