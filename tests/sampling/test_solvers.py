"""Solvers against a Gaussian, whose best denoiser and whose probability flow are known in closed form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from limner import random
from limner.contracts import Condition, Level, Prediction
from limner.sampling import DDIM, EDMTimes, Euler, FlowTimes, Heun
from limner.sampling.discretization import Discretization
from limner.sampling.solvers import Solver

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


def run(solver: Solver, times: Discretization, steps: int, n: int = 64, dtype: torch.dtype = torch.float64) -> Tensor:
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
    """From alpha = 0, where a division by alpha would be infinite."""
    start = random.normal(3, torch.arange(64), "init", shape=SHAPE).double()
    steps = np.array([16, 32, 64, 128])
    errors = [float((run(solver, FlowTimes(), s) - flowed(start)).abs().mean()) for s in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.25)
    assert errors[-1] < 0.02


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
    for solver in (Euler(), Heun(), DDIM()):
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
    ],
)
def test_noise_keeps_the_distribution(solver: Solver, times: Discretization) -> None:
    drawn = run(solver, times, 200, n=2000)
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(drawn.std()) == pytest.approx(STD, abs=0.02)
    again = run(solver, times, 200, n=3)
    torch.testing.assert_close(drawn[:3], again)


@pytest.mark.parametrize("solver", [Euler(), Heun(), DDIM(eta=0.0)])
def test_scaling_the_path_scales_the_picture_on_it(solver: Solver) -> None:
    """(c alpha, c sigma) is the same level for c x."""
    x = random.normal(1, torch.arange(5), "init", shape=SHAPE).double()
    at, to = (
        Level(torch.full((5,), a, dtype=torch.float64), torch.full((5,), s, dtype=torch.float64))
        for a, s in ((0.3, 0.7), (0.6, 0.4))
    )

    def no_noise(name: str) -> Tensor:
        raise AssertionError("a deterministic step draws no noise")

    plain = solver.step(denoise, x, at, to, Condition(), None, no_noise)[0]
    c = 2.5
    scaled = [Level(c * level.alpha, c * level.sigma) for level in (at, to)]
    torch.testing.assert_close(solver.step(denoise, c * x, *scaled, Condition(), None, no_noise)[0], c * plain)


@pytest.mark.parametrize("solver", [Euler(), Heun(), DDIM(eta=0.7), Heun(gamma=0.3)])
def test_samples_at_different_levels_do_not_meet(solver: Solver) -> None:
    """Some land on sigma = 0, where Heun takes no second look, beside others that do not."""
    alpha = torch.tensor([0.0, 0.2, 0.5, 0.9])
    next_alpha = torch.tensor([0.3, 1.0, 0.8, 1.0])
    at, to = Level(alpha, 1 - alpha), Level(next_alpha, 1 - next_alpha)
    x = random.normal(1, torch.arange(4), "init", shape=SHAPE)
    fresh: Callable[[str], Tensor] = lambda name: random.normal(1, torch.arange(4), name, shape=SHAPE)  # noqa: E731
    together = solver.step(denoise, x, at, to, Condition(), None, fresh)[0]
    assert bool(together.isfinite().all())
    for i in range(4):
        one = slice(i, i + 1)
        alone = solver.step(
            denoise, x[one], at.index(one), to.index(one), Condition(), None, lambda name, one=one: fresh(name)[one]
        )[0]
        torch.testing.assert_close(together[one], alone, rtol=1e-6, atol=1e-6)


def test_counted_evaluations_are_those_made() -> None:
    for solver in (Euler(), Heun(), DDIM()):
        calls = 0

        def counting(x: Tensor, at: Level, cond: Condition) -> Prediction:
            nonlocal calls
            calls += 1
            return denoise(x, at, cond)

        levels, x = FlowTimes().levels(7), torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
        for i in range(7):
            at, to = (Level(levels.alpha[j].expand(2), levels.sigma[j].expand(2)) for j in (i, i + 1))
            x, _ = solver.step(counting, x, at, to, Condition(), None, lambda name: torch.zeros(2, *SHAPE))
        assert calls == solver.evaluations(7)


def test_edm_levels_by_the_paper() -> None:
    """Equation 5 of Karras et al. 2022, in plain Python."""
    levels = EDMTimes(sigma_min=0.002, sigma_max=80.0, rho=7.0).levels(18)
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)] + [0.0]
    assert levels.sigma.tolist() == pytest.approx(expected, rel=1e-6)
    assert levels.alpha.tolist() == [1.0] * 19


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_flow_levels(shift: float) -> None:
    levels = FlowTimes(shift=shift).levels(10)
    t = torch.linspace(1, 0, 11)
    torch.testing.assert_close(levels.sigma, shift * t / (1 + (shift - 1) * t))
    torch.testing.assert_close(levels.alpha + levels.sigma, torch.ones(11))
    assert float(levels.alpha[0]) == 0
    assert float(levels.sigma[-1]) == 0


def test_diffusers_takes_the_same_euler_steps() -> None:
    """From the same noise over the same levels; its scheduler preconditions a raw network's output itself."""
    diffusers = pytest.importorskip("diffusers", reason="needs the extra 'peers'")
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.02, sigma_max=80.0, sigma_data=0.5, rho=7.0)
    scheduler.set_timesteps(12)
    levels = EDMTimes(sigma_min=0.02).levels(12)
    torch.testing.assert_close(scheduler.sigmas, levels.sigma, rtol=1e-4, atol=1e-4)
    mine = theirs = random.normal(3, torch.arange(8), "init", shape=SHAPE) * levels.sigma[0]
    for i, t in enumerate(scheduler.timesteps):
        at, to = (Level(levels.alpha[j].expand(8), levels.sigma[j].expand(8)) for j in (i, i + 1))
        mine, _ = Euler().step(denoise, mine, at, to, Condition(), None, torch.zeros)
        sigma = scheduler.sigmas[i]
        skip, out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / (sigma**2 + 0.25) ** 0.5
        theirs = scheduler.step((denoise(theirs, at, Condition()).x0 - skip * theirs) / out, t, theirs).prev_sample
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
