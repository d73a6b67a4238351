"""Optimisers as typed configs. One config may make several that step together, each for its own parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from limner.errors import within
from limner.objectives.muon import Muon

Optimizers = dict[str, torch.optim.Optimizer]
#: A matrix with a shorter side than this has too few directions for orthogonalising to mean anything.
_NARROW = 16
#: Highest settings: averages of gradients that never forget would never learn, and larger rates lead nowhere.
_SLOWEST, _FASTEST = 0.999999, 1000.0


@dataclass(frozen=True)
class AdamWConfig:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017), fused where torch has a fused kernel."""

    kind: Literal["adamw"] = "adamw"
    lr: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        within("optimizer.lr of AdamW", self.lr, 0, _FASTEST)
        for beta in self.betas:
            within("optimizer.betas of AdamW", beta, 0, _SLOWEST)
        within("optimizer.eps of AdamW", self.eps, 0, 1)
        within("optimizer.weight-decay of AdamW", self.weight_decay, 0, _FASTEST)

    def build(self, name: str, module: nn.Module) -> Optimizers:
        return {name: _adamw(self, list(module.parameters()))}


@dataclass(frozen=True)
class MuonConfig:
    """Muon for the matrices and convolutions inside the network, AdamW for the rest: biases, norms, embeddings, and
    layers too narrow to orthogonalise, such as a last one of few channels.

    Attributes:
        lr: of Muon.
        momentum: of Muon.
        weight_decay: of Muon.
        rest: settings of AdamW.
    """

    kind: Literal["muon"] = "muon"
    lr: float = 1.2e-2
    momentum: float = 0.9
    weight_decay: float = 0.0
    rest: AdamWConfig = AdamWConfig(lr=6e-3)

    def __post_init__(self) -> None:
        within("optimizer.lr of Muon", self.lr, 0, _FASTEST)
        within("optimizer.momentum of Muon", self.momentum, 0, _SLOWEST)
        within("optimizer.weight-decay of Muon", self.weight_decay, 0, _FASTEST)

    def build(self, name: str, module: nn.Module) -> Optimizers:
        embeddings = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
        parameters = list(module.parameters())
        inside = [
            p
            for p in parameters
            if p.ndim >= 2 and min(p.shape[0], math.prod(p.shape[1:])) >= _NARROW and id(p) not in embeddings
        ]
        chosen = {id(p) for p in inside}
        rest = [p for p in parameters if id(p) not in chosen]
        built: Optimizers = {f"{name}.rest": _adamw(self.rest, rest)} if rest else {}
        if inside:
            built[f"{name}.muon"] = Muon(inside, self.lr, self.momentum, self.weight_decay)
        return built


def _adamw(config: AdamWConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameters, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay, fused=True
    )


OptimizerConfig = AdamWConfig | MuonConfig
