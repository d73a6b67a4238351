"""The solvers by name."""

from __future__ import annotations

import math
from collections.abc import Callable

from limner.contracts import RefineConfig
from limner.sampling.multistep import DPMSolverPP2M, UniPC
from limner.sampling.one_step import DDIM, DDPM, Euler, Heun, Jump
from limner.sampling.solver import Solver


def _heun(config: RefineConfig) -> Solver:
    return Heun(gamma=min(config.churn / config.steps, math.sqrt(2) - 1))


SOLVERS: dict[str, Callable[[RefineConfig], Solver]] = {
    "euler": lambda config: Euler(),
    "heun": _heun,
    "ddim": lambda config: DDIM(config.eta),
    "ddpm": lambda config: DDPM(config.variance),
    "dpmpp_2m": lambda config: DPMSolverPP2M(config.eta),
    "dpmpp_2m_sde": lambda config: DPMSolverPP2M(eta=1.0),
    "unipc": lambda config: UniPC(),
    "jump": lambda config: Jump(config.eta),
}
