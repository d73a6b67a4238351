"""Solvers against a Gaussian, whose best denoiser and whose probability flow are known in closed form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from limner import random
from limner.contracts import Condition, FlowMap, Level, Prediction, RefineConfig
from limner.sampling import (
    DDIM,
    DDPM,
    SOLVERS,
    DiscreteTimes,
    DPMSolverPP2M,
    EDMTimes,
    Euler,
    FlowTimes,
    Heun,
    Jump,
    UniPC,
)
from limner.sampling.discretization import Discretization
from limner.sampling.solver import Denoise, Solver

ALL: list[Solver] = [
    Euler(),
    Heun(),
    DDIM(eta=0.0),
    DDIM(eta=0.7),
    Heun(gamma=0.3),
    DDPM(),
    DDPM(variance="large"),
    DPMSolverPP2M(),
    DPMSolverPP2M(eta=1.0),
    UniPC(),
]
MEAN, STD = 0.7, 0.4
SHAPE = (1, 4, 4)


def denoise(x: Tensor, at: Level, cond: Condition) -> Prediction:
    """E[x0 | x] for x0 ~ N(MEAN, STD²), x = alpha x0 + sigma noise."""
    alpha, sigma = at.like(x)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return Prediction(MEAN + gain * (x - alpha * MEAN))


def flowed(start: Tensor) -> Tensor:
    """Where the probability flow takes pure unit noise at alpha = 0: the flow keeps each point's quantile."""
    return MEAN + STD * start


class Map(FlowMap):
    """The flow itself: x keeps its quantile from level to level."""

    def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
        return denoise(x, at, cond)

    def jump(self, x: Tensor, at: Level, to: Level, cond: Condition) -> Tensor:
        (alpha, sigma), (alpha_to, sigma_to) = at.like(x), to.like(x)
        std, std_to = (((a * STD) ** 2 + s**2).sqrt() for a, s in ((alpha, sigma), (alpha_to, sigma_to)))
        return alpha_to * MEAN + (x - alpha * MEAN) / std * std_to


def run(
    solver: Solver,
    times: Discretization,
    steps: int,
    n: int = 64,
    dtype: torch.dtype = torch.float64,
    denoise: Denoise = denoise,
) -> Tensor:
    levels = times.levels(steps)
    alpha, sigma = levels.alpha.to(dtype), levels.sigma.to(dtype)
    samples = torch.arange(n)
    x = random.normal(3, samples, "init", shape=SHAPE).to(dtype) * sigma[0]
    memory = solver.init(x)
    for i in range(steps):

        def noise(name: str, step: int = i) -> Tensor:
            return random.normal(3, samples, name, step, shape=SHAPE).to(dtype)

        at, to = (Level(alpha[j].expand(n), sigma[j].expand(n)) for j in (i, i + 1))
        x, memory = solver.step(denoise, x, at, to, Condition(), memory, noise)
    return x


@pytest.mark.parametrize(("solver", "order"), [(Euler(), 1.0), (Heun(), 2.0), (DDIM(), 1.0)])
def test_convergence_order_on_the_flow(solver: Solver, order: float) -> None:
    """From alpha = 0, where a division by alpha would be infinite. (Solvers that look back are of second order in
    ln(alpha / sigma), whose steps do not shrink at the flow's ends.)"""
    start = random.normal(3, torch.arange(64), "init", shape=SHAPE).double()
    steps = np.array([16, 32, 64, 128])
    errors = [float((run(solver, FlowTimes(), s) - flowed(start)).abs().mean()) for s in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.25)
    assert errors[-1] < 0.02


@pytest.mark.parametrize(
    ("solver", "order"), [(Euler(), 1.0), (Heun(), 2.0), (DDIM(), 1.0), (DPMSolverPP2M(), 2.0), (UniPC(), 3.0)]
)
def test_convergence_order_between_two_levels(solver: Solver, order: float) -> None:
    """Even steps in ln(sigma / alpha), from one level to another, against the flow's exact end. UniPC's corrector is
    one order above its predictor."""
    q = random.normal(3, torch.arange(64), "init", shape=SHAPE).double()

    def on_path(sigma: Tensor) -> Tensor:
        return MEAN + (STD**2 + sigma**2).sqrt() * q

    steps, errors = np.array([16, 32, 64, 128]), []
    for count in steps:
        sigma = torch.logspace(1, -1.5, count + 1, dtype=torch.float64)
        level, x = levels_of(64, torch.ones_like(sigma), sigma), on_path(sigma[0])
        memory = solver.init(x)
        for i in range(count):
            x, memory = solver.step(denoise, x, level(i), level(i + 1), Condition(), memory, torch.zeros)
        errors.append(float((x - on_path(sigma[-1])).abs().mean()))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize(("solver", "order"), [(Euler(), 1.0), (Heun(), 2.0)])
def test_convergence_order_on_edm(solver: Solver, order: float) -> None:
    """At sigma_max = 80 the start differs from the flow's exact quantile by the mean's share, about 0.7 / 80."""
    fine = run(Heun(), EDMTimes(sigma_min=0.02), 800)
    errors = [float((run(solver, EDMTimes(sigma_min=0.02), s) - fine).abs().mean()) for s in (20, 40, 80)]
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(order, abs=0.5)
    start = random.normal(3, torch.arange(64), "init", shape=SHAPE).double()
    assert float((fine - flowed(start)).abs().mean()) < 0.02


def test_one_step_from_pure_noise_gives_the_mean() -> None:
    """All that is known at alpha = 0 is the data's mean."""
    for solver in (Euler(), Heun(), DDIM(), DDPM(), DPMSolverPP2M(), DPMSolverPP2M(eta=1.0), UniPC()):
        torch.testing.assert_close(run(solver, FlowTimes(), 1), torch.full((64, *SHAPE), MEAN, dtype=torch.float64))


def test_ddim_without_noise_is_euler() -> None:
    assert torch.equal(run(DDIM(eta=0.0), FlowTimes(), 9), run(Euler(), FlowTimes(), 9))


@pytest.mark.parametrize(
    ("solver", "times"),
    [
        (DDIM(eta=1.0), FlowTimes()),
        (DDIM(eta=0.5), EDMTimes()),
        (Heun(gamma=0.2), EDMTimes()),
        (Heun(gamma=0.1), FlowTimes()),
        (DDPM(), FlowTimes()),
        (DDPM(), DiscreteTimes()),
        (DPMSolverPP2M(eta=1.0), EDMTimes()),
        (DPMSolverPP2M(eta=0.5), FlowTimes()),
    ],
)
def test_noise_keeps_the_distribution(solver: Solver, times: Discretization) -> None:
    drawn = run(solver, times, 200, n=2000)
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(drawn.std()) == pytest.approx(STD, abs=0.02)
    again = run(solver, times, 200, n=3)
    torch.testing.assert_close(drawn[:3], again)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_jumps_need_no_small_steps(eta: float, steps: int) -> None:
    drawn = run(Jump(eta), FlowTimes(shift=1.5), steps, n=2000, denoise=Map())
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(drawn.std()) == pytest.approx(STD, abs=0.02)
    start = random.normal(3, torch.arange(2000), "init", shape=SHAPE).double()
    kept = torch.allclose(drawn, flowed(start))
    assert kept == (eta == 0 or steps == 1), "fresh noise makes other pictures, and only fresh noise"


def test_a_jump_lands_on_the_line_of_the_path() -> None:
    """Also where the path is scaled, as EDM's is, whose alpha is 1 everywhere."""
    seen: list[Level] = []

    class Noted(Map):
        def jump(self, x: Tensor, at: Level, to: Level, cond: Condition) -> Tensor:
            seen.append(to)
            return super().jump(x, at, to, cond)

    x = random.normal(1, torch.arange(3), "init", shape=SHAPE)
    at, to = Level(torch.ones(3), torch.full((3,), 4.0)), Level(torch.ones(3), torch.tensor([0.0, 1.0, 2.0]))
    landed = Jump(0.6).step(Noted(), x, at, to, Condition(), (), lambda _: torch.zeros_like(x))[0]
    torch.testing.assert_close(seen[0].alpha + seen[0].sigma, torch.ones(3))
    torch.testing.assert_close(seen[0].sigma / seen[0].alpha, 0.8 * to.sigma)
    torch.testing.assert_close(landed, Map().jump(x, at, Level(torch.ones(3), 0.8 * to.sigma), Condition()))


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_scaling_the_path_scales_the_picture_on_it(solver: Solver) -> None:
    """(c alpha, c sigma) is the same level for c x."""
    x, fresh = (random.normal(1, torch.arange(5), name, shape=SHAPE).double() for name in ("init", "fresh"))
    at, to = (
        Level(torch.full((5,), a, dtype=torch.float64), torch.full((5,), s, dtype=torch.float64))
        for a, s in ((0.3, 0.7), (0.6, 0.4))
    )
    plain = solver.step(denoise, x, at, to, Condition(), solver.init(x), lambda _: fresh)[0]
    c = 2.5
    scaled = [Level(c * level.alpha, c * level.sigma) for level in (at, to)]
    torch.testing.assert_close(
        solver.step(denoise, c * x, *scaled, Condition(), solver.init(x), lambda _: fresh)[0], c * plain
    )


@pytest.mark.parametrize("solver", [Euler(), Heun(), DDIM(eta=0.0), DPMSolverPP2M(), UniPC()])
def test_a_deterministic_step_draws_no_noise(solver: Solver) -> None:
    def no_noise(name: str) -> Tensor:
        raise AssertionError(name)

    level = Level(torch.full((2,), 0.5), torch.full((2,), 0.5))
    x = torch.ones(2, *SHAPE)
    torch.testing.assert_close(solver.step(denoise, x, level, level, Condition(), solver.init(x), no_noise)[0], x)


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_samples_at_different_levels_do_not_meet(solver: Solver) -> None:
    """Some land on sigma = 0, where Heun takes no second look, beside others that do not."""
    alpha = torch.tensor([0.0, 0.2, 0.5, 0.9])
    next_alpha = torch.tensor([0.3, 1.0, 0.8, 1.0])
    at, to = Level(alpha, 1 - alpha), Level(next_alpha, 1 - next_alpha)
    x = random.normal(1, torch.arange(4), "init", shape=SHAPE)
    fresh: Callable[[str], Tensor] = lambda name: random.normal(1, torch.arange(4), name, shape=SHAPE)  # noqa: E731
    together = solver.step(denoise, x, at, to, Condition(), solver.init(x), fresh)[0]
    assert bool(together.isfinite().all())
    for i in range(4):
        one = slice(i, i + 1)
        alone = solver.step(
            denoise,
            x[one],
            at.index(one),
            to.index(one),
            Condition(),
            solver.init(x[one]),
            lambda name, one=one: fresh(name)[one],
        )[0]
        torch.testing.assert_close(together[one], alone, rtol=1e-6, atol=1e-6)


def test_counted_evaluations_are_those_made() -> None:
    for solver in ALL:
        calls = 0

        def counting(x: Tensor, at: Level, cond: Condition) -> Prediction:
            nonlocal calls
            calls += 1
            return denoise(x, at, cond)

        levels, x = FlowTimes().levels(7), torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
        memory = solver.init(x)
        for i in range(7):
            at, to = (Level(levels.alpha[j].expand(2), levels.sigma[j].expand(2)) for j in (i, i + 1))
            x, memory = solver.step(counting, x, at, to, Condition(), memory, lambda name: torch.zeros(2, *SHAPE))
        assert calls == solver.evaluations(7)


def test_churn_is_bounded_and_stays_in_its_interval() -> None:
    """Karras et al. 2022, algorithm 2: gamma = min(S_churn / N, sqrt(2) - 1), and only for sigma within its bounds."""
    assert SOLVERS["heun"](RefineConfig(steps=40, churn=10)) == Heun(gamma=0.25)
    assert SOLVERS["heun"](RefineConfig(steps=4, churn=40)) == Heun(gamma=math.sqrt(2) - 1)
    sigma = torch.tensor([0.05, 0.5, 5.0], dtype=torch.float64)
    at, to = Level(torch.ones_like(sigma), sigma), Level(torch.ones_like(sigma), sigma / 2)
    x, fresh = (random.normal(1, torch.arange(3), name, shape=SHAPE).double() for name in ("init", "churn"))
    solver = Heun(gamma=0.3, churn_from=0.1, churn_to=1.0, churn_noise=1.1)
    stepped = solver.step(denoise, x, at, to, Condition(), solver.init(x), lambda _: fresh)[0]
    raised = torch.tensor([0.05, 0.65, 5.0], dtype=torch.float64)
    extra = 1.1 * (raised**2 - sigma**2).sqrt().reshape(-1, 1, 1, 1)
    calm = Heun().step(
        denoise, x + extra * fresh, Level(at.alpha, raised), to, Condition(), solver.init(x), lambda _: fresh
    )[0]
    torch.testing.assert_close(stepped, calm)


def test_pure_noise_is_not_churned() -> None:
    """At alpha = 0 there is no picture to move away from, and sigma / alpha is infinite."""
    at, to = Level(torch.zeros(4), torch.ones(4)), Level(torch.full((4,), 0.2), torch.full((4,), 0.8))
    x, fresh = (random.normal(1, torch.arange(4), name, shape=SHAPE) for name in ("init", "churn"))
    churned, calm = (
        solver.step(denoise, x, at, to, Condition(), solver.init(x), lambda _: fresh)[0]
        for solver in (Heun(gamma=0.3), Heun())
    )
    assert torch.equal(churned, calm)


def levels_of(n: int, alpha: Tensor, sigma: Tensor) -> Callable[[int], Level]:
    return lambda i: Level(alpha[i].expand(n), sigma[i].expand(n))


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "HeunDiscreteScheduler"])
def test_diffusers_takes_the_same_steps_over_edm_levels(name: str) -> None:
    """The same denoiser, told as the noise it implies, from the same noise over the same levels."""
    scheduler = getattr(diffusers, name)(use_karras_sigmas=True)
    scheduler.set_timesteps(10)
    scheduler.set_begin_index(0)
    twice = name.startswith("Heun")  # it lists every level but the first and the last two times
    sigmas = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1::2]]) if twice else scheduler.sigmas
    level = levels_of(8, torch.ones(11), sigmas)
    mine = theirs = random.normal(3, torch.arange(8), "init", shape=SHAPE) * sigmas[0]
    for i in range(10):
        solver: Solver = Heun() if twice else Euler()
        mine, _ = solver.step(denoise, mine, level(i), level(i + 1), Condition(), (), torch.zeros)
    for sigma, t in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        scheduler.scale_model_input(theirs, t)
        at = Level(torch.ones(8), sigma.expand(8))
        theirs = scheduler.step(denoise(theirs, at, Condition()).noise(theirs, at), t, theirs).prev_sample
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_diffusers_takes_the_same_ddim_steps(eta: float) -> None:
    """On a variance-preserving path, with the same fresh noise."""
    scheduler = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(20)
    kept = torch.cat([scheduler.alphas_cumprod[scheduler.timesteps], torch.ones(1)])
    level = levels_of(8, kept.sqrt(), (1 - kept).sqrt())
    samples = torch.arange(8)
    mine = theirs = random.normal(3, samples, "init", shape=SHAPE)
    for i, t in enumerate(scheduler.timesteps):

        def noise(name: str, step: int = i) -> Tensor:
            return random.normal(3, samples, name, step, shape=SHAPE)

        mine, _ = DDIM(eta).step(denoise, mine, level(i), level(i + 1), Condition(), (), noise)
        eps = denoise(theirs, level(i), Condition()).noise(theirs, level(i))
        theirs = scheduler.step(eps, t, theirs, eta=eta, variance_noise=noise("ancestral")).prev_sample
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_diffusers_takes_the_same_steps_on_the_flow() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    given = FlowTimes(shift=3.0).levels(12)
    scheduler.set_timesteps(sigmas=given.sigma[:-1].tolist())
    torch.testing.assert_close(scheduler.sigmas, given.sigma)
    level = levels_of(8, given.alpha, given.sigma)
    mine = theirs = random.normal(3, torch.arange(8), "init", shape=SHAPE)
    for i, t in enumerate(scheduler.timesteps):
        mine, _ = Euler().step(denoise, mine, level(i), level(i + 1), Condition(), (), torch.zeros)
        guess = denoise(theirs, level(i), Condition())
        theirs = scheduler.step(guess.noise(theirs, level(i)) - guess.x0, t, theirs).prev_sample
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def through(scheduler: Any, x: Tensor, level: Callable[[int], Level]) -> Tensor:
    """What a multi-step scheduler of diffusers makes of noise; its model says the noise."""
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(denoise(x, level(i), Condition()).noise(x, level(i)), t, x).prev_sample
    return x


def levels_by(scheduler: Any) -> tuple[Tensor, Tensor]:
    """(alpha, sigma) that its sigmas stand for, on the variance-preserving circle."""
    alpha = 1 / (1 + scheduler.sigmas.square()).sqrt()
    return alpha, scheduler.sigmas * alpha


@pytest.mark.parametrize("steps", [3, 10, 25])
@pytest.mark.parametrize(
    ("solver", "name", "options"),
    [
        (DPMSolverPP2M(), "DPMSolverMultistepScheduler", {}),
        (DPMSolverPP2M(), "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        (UniPC(), "UniPCMultistepScheduler", {"solver_order": 2, "solver_type": "bh2", "final_sigmas_type": "zero"}),
    ],
)
def test_diffusers_takes_the_same_multi_steps(solver: Solver, name: str, options: dict[str, Any], steps: int) -> None:
    scheduler = getattr(diffusers, name)(timestep_spacing="trailing", **options)
    scheduler.set_timesteps(steps)
    alpha, sigma = levels_by(scheduler)
    level = levels_of(8, alpha, sigma)
    mine = start = random.normal(3, torch.arange(8), "init", shape=SHAPE)
    memory = solver.init(mine)
    for i in range(steps):
        mine, memory = solver.step(denoise, mine, level(i), level(i + 1), Condition(), memory, torch.zeros)
    torch.testing.assert_close(mine, through(scheduler, start, level), rtol=1e-4, atol=1e-4)


def test_diffusers_takes_the_same_stochastic_multi_steps() -> None:
    """With the same fresh noise, which its scheduler takes as an argument."""
    scheduler = diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", timestep_spacing="trailing")
    scheduler.set_timesteps(12)
    level, samples = levels_of(8, *levels_by(scheduler)), torch.arange(8)
    mine = theirs = random.normal(3, samples, "init", shape=SHAPE)
    solver = DPMSolverPP2M(eta=1.0)
    memory = solver.init(mine)
    for i, t in enumerate(scheduler.timesteps):

        def noise(name: str, step: int = i) -> Tensor:
            return random.normal(3, samples, name, step, shape=SHAPE)

        mine, memory = solver.step(denoise, mine, level(i), level(i + 1), Condition(), memory, noise)
        eps = denoise(theirs, level(i), Condition()).noise(theirs, level(i))
        theirs = scheduler.step(eps, t, theirs, variance_noise=noise("sde")).prev_sample
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
@pytest.mark.parametrize("steps", [20, 1000])
def test_diffusers_takes_the_same_ddpm_steps(
    variance: Literal["small", "large", "learned"], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ancestral steps with either bound or with a variance between them; its noise is drawn by the name it draws by."""
    types = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}
    scheduler = diffusers.DDPMScheduler(clip_sample=False, variance_type=types[variance])
    scheduler.set_timesteps(steps)
    kept = torch.cat([scheduler.alphas_cumprod[scheduler.timesteps], torch.ones(1)])
    level, samples = levels_of(4, kept.sqrt(), (1 - kept).sqrt()), torch.arange(4)
    between = torch.linspace(0, 1, 64).reshape(4, *SHAPE)

    def guess(x: Tensor, at: Level, cond: Condition) -> Prediction:
        return Prediction(denoise(x, at, cond).x0, between if variance == "learned" else None)

    solver = DDPM("large" if variance == "large" else "small")
    mine = theirs = random.normal(3, samples, "init", shape=SHAPE)
    for i, t in enumerate(scheduler.timesteps):
        fresh = random.normal(3, samples, "ancestral", i, shape=SHAPE)
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, fresh=fresh, **__: fresh)
        mine, _ = solver.step(guess, mine, level(i), level(i + 1), Condition(), (), lambda _, fresh=fresh: fresh)
        eps = denoise(theirs, level(i), Condition()).noise(theirs, level(i))
        told = torch.cat([eps, 2 * between - 1], dim=1) if variance == "learned" else eps
        theirs = scheduler.step(told, t, theirs).prev_sample
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("solver", [DPMSolverPP2M(), DPMSolverPP2M(eta=1.0), UniPC()], ids=str)
def test_memories_of_samples_at_different_steps_do_not_meet(solver: Solver) -> None:
    """One batch of samples that stand at their first, second, third and last step, against each alone."""
    levels, samples = FlowTimes(shift=2.0).levels(4), torch.arange(4)
    x = random.normal(1, samples, "init", shape=SHAPE)

    def walk(which: Tensor, first: int, x: Tensor, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        at, to = (Level(levels.alpha[first + i].expand(len(x)), levels.sigma[first + i].expand(len(x))) for i in (0, 1))
        fresh: Callable[[str], Tensor] = lambda name: random.normal(1, which, name, first, shape=SHAPE)  # noqa: E731
        return solver.step(denoise, x, at, to, Condition(), memory, fresh)

    paths = []
    for i in range(4):
        one, memory = x[i : i + 1], solver.init(x[i : i + 1])
        for step in range(i):
            one, memory = walk(samples[i : i + 1], step, one, memory)
        paths.append((one, memory))
    step = torch.arange(4)
    together, _ = solver.step(
        denoise,
        torch.cat([one for one, _ in paths]),
        Level(levels.alpha[step], levels.sigma[step]),
        Level(levels.alpha[step + 1], levels.sigma[step + 1]),
        Condition(),
        tuple(torch.cat(parts) for parts in zip(*(memory for _, memory in paths), strict=True)),
        lambda name: random.normal(1, samples, name, step, shape=SHAPE),
    )
    assert bool(together.isfinite().all())
    for i, (one, memory) in enumerate(paths):
        alone, _ = walk(samples[i : i + 1], i, one, memory)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)
