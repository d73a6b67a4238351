"""A trained denoiser through limner's solvers and through diffusers' schedulers, from the same noise.

    python benchmarks/solvers.py RUN

Both visit the scheduler's own levels and see the same fresh noise where a solver draws some; the scheduler is told the
noise that the denoiser implies. Told is the largest difference of a value of the last picture, in [-1, 1] units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import diffusers
import torch
import tyro
from torch import Tensor

from limner import load, random
from limner.contracts import Condition, Level
from limner.sampling import DDIM, DDPM, DPMSolverPP2M, Euler, Heun, UniPC
from limner.sampling.solver import Denoise, Solver


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        model: a run or a snapshot folder.
        n: pictures.
        seed: of their noise.
    """

    model: Annotated[Path, tyro.conf.Positional]
    n: int = 8
    seed: int = 0


@dataclass(frozen=True)
class Pair:
    """A solver and the scheduler that should take the same steps."""

    solver: Solver
    name: str
    steps: int
    options: dict[str, Any]
    module: str = ""

    def scheduler(self) -> Any:
        made = getattr(diffusers, self.name)(**self.options)
        made.set_timesteps(self.steps)
        return made


PLAIN = {"clip_sample": False}
TRAILING = {"timestep_spacing": "trailing"}
PAIRS = {
    "ddpm, 1000 steps": Pair(DDPM(), "DDPMScheduler", 1000, PLAIN, "scheduling_ddpm"),
    "ddpm, 50 steps, large variance": Pair(
        DDPM("large"), "DDPMScheduler", 50, PLAIN | {"variance_type": "fixed_large"}, "scheduling_ddpm"
    ),
    "ddim, 50 steps": Pair(DDIM(), "DDIMScheduler", 50, PLAIN),
    "euler, 30 steps": Pair(Euler(), "EulerDiscreteScheduler", 30, TRAILING),
    "euler, 18 steps over Karras' levels": Pair(Euler(), "EulerDiscreteScheduler", 18, {"use_karras_sigmas": True}),
    "heun, 18 steps over Karras' levels": Pair(Heun(), "HeunDiscreteScheduler", 18, {"use_karras_sigmas": True}),
    "dpmpp_2m, 20 steps": Pair(DPMSolverPP2M(), "DPMSolverMultistepScheduler", 20, TRAILING),
    "dpmpp_2m_sde, 20 steps": Pair(
        DPMSolverPP2M(eta=1.0),
        "DPMSolverMultistepScheduler",
        20,
        TRAILING | {"algorithm_type": "sde-dpmsolver++"},
        "scheduling_dpmsolver_multistep",
    ),
    "unipc, 20 steps": Pair(UniPC(), "UniPCMultistepScheduler", 20, TRAILING | {"final_sigmas_type": "zero"}),
}


def path(scheduler: Any) -> tuple[Tensor, Tensor]:
    """(alpha, sigma) of the levels that a scheduler visits, in its own scale, sigma = 0 the last."""
    if hasattr(scheduler, "sigmas"):
        sigmas = scheduler.sigmas.double()
        if scheduler.__class__.__name__.startswith("Heun"):  # every level but the first and the last two times
            sigmas = torch.cat([sigmas[:1], sigmas[1::2]])
        if scheduler.__class__.__name__.startswith(("Heun", "Euler")):
            return torch.ones_like(sigmas), sigmas
        alpha = 1 / (1 + sigmas.square()).sqrt()
        return alpha, sigmas * alpha
    kept = torch.cat([scheduler.alphas_cumprod[scheduler.timesteps].double(), torch.ones(1).double()])
    return kept.sqrt(), (1 - kept).sqrt()


Levels = Callable[[int], Level]
Fresh = Callable[[int], Tensor]


def ours(pair: Pair, denoise: Denoise, cond: Condition, x: Tensor, level: Levels, fresh: Fresh) -> Tensor:
    memory = pair.solver.init(x)
    for i in range(pair.steps):

        def noise(name: str, i: int = i) -> Tensor:
            return fresh(i)

        x, memory = pair.solver.step(denoise, x, level(i), level(i + 1), cond, memory, noise)
    return x


def theirs(pair: Pair, denoise: Denoise, cond: Condition, x: Tensor, level: Levels, fresh: Fresh) -> Tensor:
    scheduler = pair.scheduler()
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    heun = pair.name.startswith("Heun")
    for i, t in enumerate(scheduler.timesteps):
        if pair.name.startswith(("Heun", "Euler")):
            scheduler.scale_model_input(x, t)
        at = level((i + 1) // 2 if heun else i)
        eps = denoise(x, at, cond).noise(x, at)
        with _noise_of(pair.module, fresh(i)):
            x = scheduler.step(eps, t, x).prev_sample
    return x


def _noise_of(module: str, fresh: Tensor) -> Any:
    """Has a scheduler draw this noise."""
    if not module:
        return nullcontext()
    return mock.patch(f"diffusers.schedulers.{module}.randn_tensor", return_value=fresh)


def differences(args: Args) -> Iterator[tuple[str, float]]:
    model = load(args.model)
    net = model.net.double()
    samples = torch.arange(args.n)
    cond = Condition(samples % len(model.labels)) if model.labels else Condition()
    for name, pair in PAIRS.items():
        alpha, sigma = path(pair.scheduler())

        def level(i: int, alpha: Tensor = alpha, sigma: Tensor = sigma) -> Level:
            return Level(alpha[i].expand(args.n), sigma[i].expand(args.n))

        def fresh(i: int) -> Tensor:
            return random.normal(args.seed, samples, "fresh", i, shape=model.spec.shape).double()

        start = random.normal(args.seed, samples, "init", shape=model.spec.shape).double() * sigma[0]
        mine, other = (draw(pair, net, cond, start, level, fresh) for draw in (ours, theirs))
        yield name, float((mine - other).abs().max())


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    print("| solver | diffusers' scheduler | largest difference |")
    print("|---|---|---|")
    for name, off in differences(tyro.cli(Args)):
        print(f"| {name} | {PAIRS[name].name} | {off:.1e} |")
