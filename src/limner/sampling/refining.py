"""How a denoiser draws: a loop over a solver's step, so that a server can batch, stream and cancel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner import random
from limner.contracts import Codec, Condition, Denoiser, FlowMap, ImageSpec, Level, Model, RefineConfig
from limner.errors import UserError, nearest
from limner.sampling.discretization import DISCRETIZATIONS
from limner.sampling.guidance import autoguidance, classifier_free, clipped
from limner.sampling.solver import Denoise, Memory, Solver
from limner.sampling.solvers import SOLVERS


@dataclass
class Trajectories:
    """Samples on their way, each at its own step of its own schedule.

    Attributes:
        x: (N, C, H, W).
        samples: (N,) int64, their global indices, which key their noise.
        schedule: of (N, S + 1) tensors; a shorter schedule is padded with its end.
        step: (N,) int64, steps taken so far.
        memory: the solver's, of (N, ...) tensors.
    """

    x: Tensor
    samples: Tensor
    schedule: Level
    step: Tensor
    memory: Memory = ()

    def level(self, ahead: int = 0) -> Level:
        column = (self.step + ahead)[:, None]
        return Level(self.schedule.alpha.gather(1, column)[:, 0], self.schedule.sigma.gather(1, column)[:, 0])

    @property
    def done(self) -> Tensor:
        """(N,) bool."""
        return self.level().sigma == 0


def begin(spec: ImageSpec, samples: Tensor, schedules: list[Level], solver: Solver, *, seed: int) -> Trajectories:
    """Pure noise at the first level of each sample's schedule."""
    longest = max(len(schedule.alpha) for schedule in schedules)

    def padded(values: Tensor) -> Tensor:
        return torch.cat([values, values[-1:].expand(longest - len(values))])

    device = samples.device
    schedule = Level(
        torch.stack([padded(s.alpha) for s in schedules]).to(device),
        torch.stack([padded(s.sigma) for s in schedules]).to(device),
    )
    x = random.normal(seed, samples, "init", shape=spec.shape) * schedule.sigma[:, 0].reshape(-1, 1, 1, 1)
    return Trajectories(x, samples, schedule, torch.zeros_like(samples), solver.init(x))


@torch.no_grad()
def advance(paths: Trajectories, denoise: Denoise, solver: Solver, cond: Condition, *, seed: int) -> None:
    """One step of every sample that is not done, in place. (All must be under way: drop the done ones first.)"""

    def noise(name: str) -> Tensor:
        return random.normal(seed, paths.samples, name, paths.step, shape=tuple(paths.x.shape[1:]))

    paths.x, paths.memory = solver.step(
        denoise, paths.x, paths.level(), paths.level(ahead=1), cond, paths.memory, noise
    )
    paths.step = paths.step + 1


def checked(model: Model, config: RefineConfig, guide: Model | None) -> None:
    """Raises a UserError where nobody knows the solver or the levels, or the model cannot go or be steered so."""
    _levels(_known(config))
    if config.solver == "jump":
        if not isinstance(model.net, FlowMap):
            raise UserError(
                "solver 'jump' is for models that know where a path ends; train one with: limner train consistency"
            )
        if config.guidance != 1 or config.clip:
            raise UserError("solver 'jump' takes no guidance and no clipping; leave them out, or take another solver")
    if guide is not None and not isinstance(guide.net, Denoiser):
        raise UserError("the model that guides must refine noise too, as flow and edm do")
    if guide is not None and (guide.spec, guide.labels) != (model.spec, model.labels):
        raise UserError("the model that guides must draw pictures of the same kind and classes")
    if guide is not None and not _same(guide.codec, model.codec):
        raise UserError("the model that guides must work on the same pixels, or the latents of the same codec")
    if guide is not None and config.guidance == 1:
        raise UserError("a guidance of 1 is none, and the model that guides would do nothing; give --guidance 1.5, say")
    if guide is None and config.guidance != 1:
        if not model.labels:
            raise UserError("guidance steers towards a class, and this model was trained without labels; leave it out")
        if not model.unconditional:
            raise UserError(
                "guidance needs to know pictures without their class too, and this model was always told it; leave "
                "guidance out, or train with --objective.label-dropout 0.05"
            )


def _same(one: Codec, other: Codec) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def _known(config: RefineConfig) -> RefineConfig:
    if config.solver not in SOLVERS:
        raise UserError(f"solver '{config.solver}' is unknown{nearest(config.solver, SOLVERS)}")
    if config.discretization not in DISCRETIZATIONS:
        raise UserError(
            f"discretization '{config.discretization}' is unknown{nearest(config.discretization, DISCRETIZATIONS)}"
        )
    return config


def _levels(config: RefineConfig) -> Level:
    """The levels that a sample visits, (steps + 1,)."""
    return DISCRETIZATIONS[config.discretization](config).levels(config.steps)


def evaluations(config: RefineConfig) -> int:
    """How many pictures the network sees to draw one, guidance included."""
    solver = SOLVERS[_known(config).solver](config)
    once: int = solver.evaluations(config.steps)
    if config.guidance == 1:
        return once
    with torch.device("cpu"):  # also where networks are made without numbers
        at = _levels(config)
    times = (at.sigma / (at.alpha + at.sigma))[:-1].tolist()
    guided = sum(config.guidance_from <= time <= config.guidance_to for time in times)
    share: float = guided / len(times)
    return round(once * (1 + share))


def refined(
    model: Model, cond: Condition, samples: Tensor, config: RefineConfig, *, seed: int, guide: Model | None
) -> Tensor:
    """The latents (N, C, H, W) of the samples of the given global indices."""
    assert isinstance(model.net, Denoiser)
    net = model.net
    solver = SOLVERS[config.solver](config)
    between = (config.guidance, config.guidance_from, config.guidance_to)
    if guide is None:
        denoise = classifier_free(net, *between)
    else:
        assert isinstance(guide.net, Denoiser)
        denoise = autoguidance(net, guide.net, *between)
    if config.clip:
        denoise = clipped(denoise)
    spec = model.codec.latent_spec(model.spec)
    paths = begin(spec, samples, [_levels(config)] * len(samples), solver, seed=seed)
    for _ in range(config.steps):
        advance(paths, denoise, solver, cond, seed=seed)
    return paths.x
