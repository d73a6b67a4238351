"""The sizes that every recipe comes in, the networks that the recipes on pixels share, and which suits a budget."""

from __future__ import annotations

from typing import Literal, get_args

from limner.models import DiTConfig, UNetConfig

Size = Literal["tiny", "small", "base", "large"]
SIZES: tuple[Size, ...] = get_args(Size)

UNETS: dict[Size, UNetConfig] = {
    "tiny": UNetConfig(width=16, multipliers=(1, 2)),
    "small": UNetConfig(width=32, multipliers=(1, 2)),
    "base": UNetConfig(width=64, multipliers=(1, 2, 2), blocks=2, attention=(2,)),
    "large": UNetConfig(width=128, multipliers=(2, 2, 2), blocks=4, attention=(1,), unshuffle=1, dropout=0.1),
}

DITS: dict[Size, DiTConfig] = {
    "tiny": DiTConfig(width=96, depth=4, heads=3),
    "small": DiTConfig(width=192, depth=6, heads=3),
    "base": DiTConfig(width=384, depth=12, heads=6),
    "large": DiTConfig(width=768, depth=12, heads=12, dropout=0.1),
}

#: Up to so many minutes on two cores a size is taken. Measured on 28x28 digits at one minute (docs/report-card.md), a
#: guess from the networks' costs beyond.
_MINUTES: dict[Size, float] = {"tiny": 5.0, "small": 60.0, "base": 24 * 60.0}


def size_for(minutes: float | None) -> Size:
    """The size for a budget: a small network that has finished beats a large one that has begun."""
    if minutes is None:
        return "small"
    return next((size for size, most in _MINUTES.items() if minutes <= most), "large")
