"""Noise-level distributions: how training draws levels.

Both are functions of uniforms in (0, 1), so that the draw can be keyed by sample and stratified over a batch.
ln(sigma / alpha) is normal under either: they differ in the scale that alpha and sigma are written in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from limner.contracts import Level


@dataclass(frozen=True)
class LogNormal:
    """ln sigma is normal, alpha = 1 (Karras et al. 2022, table 1)."""

    kind: Literal["log-normal"] = "log-normal"
    mean: float = -1.2
    std: float = 1.2

    def __call__(self, u: Tensor) -> Level:
        sigma = (self.mean + self.std * torch.special.ndtri(u)).exp()
        return Level(torch.ones_like(sigma), sigma)


@dataclass(frozen=True)
class LogitNormal:
    """t = sigmoid(normal), alpha = 1 - t, sigma = t (Esser et al. 2024, section 3.1)."""

    kind: Literal["logit-normal"] = "logit-normal"
    mean: float = 0.0
    std: float = 1.0

    def __call__(self, u: Tensor) -> Level:
        t = (self.mean + self.std * torch.special.ndtri(u)).sigmoid()
        return Level(1 - t, t)


NoiseLevels = LogNormal | LogitNormal
