"""The sizes that every recipe comes in, and the networks that the recipes on pixels share."""

from __future__ import annotations

from typing import Literal, get_args

from limner.models import UNetConfig

Size = Literal["tiny", "small", "base", "large"]
SIZES: tuple[Size, ...] = get_args(Size)

UNETS: dict[Size, UNetConfig] = {
    "tiny": UNetConfig(width=32, multipliers=(1, 2), blocks=1, unshuffle=2),
    "small": UNetConfig(width=32, multipliers=(1, 2), blocks=1, unshuffle=2),
    "base": UNetConfig(width=64, multipliers=(1, 2, 2), blocks=2, attention=(2,), unshuffle=2),
    "large": UNetConfig(width=128, multipliers=(2, 2, 2), blocks=4, attention=(1,), unshuffle=1, dropout=0.1),
}
