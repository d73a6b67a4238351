from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from limner import random
from limner.codecs import Identity
from limner.contracts import Condition, Denoiser, ImageSpec, Level, Model, Prediction, RefineConfig
from limner.errors import UserError
from limner.models import PRECONDITIONINGS, Preconditioned, PreconditionedFlowMap, UNet, UNetConfig
from limner.sampling import (
    DISCRETIZATIONS,
    SOLVERS,
    FlowTimes,
    advance,
    begin,
    classifier_free,
    evaluations,
    labels_for,
    resolve,
    sample,
    to_pixels,
)
from limner.sampling.solver import Denoise, Memory, Noise

SPEC = ImageSpec(1, (9, 7), "L")
CONFIGS = {
    "euler": RefineConfig(steps=4, solver="euler", guidance=1.7),
    "heun": RefineConfig(steps=4, solver="heun", guidance=1.7, guidance_from=0.2, guidance_to=0.8),
    "churn": RefineConfig(steps=4, solver="heun", churn=1.0, discretization="edm"),
    "ddim": RefineConfig(steps=4, solver="ddim", eta=1.0),
    "ddpm": RefineConfig(steps=4, solver="ddpm", discretization="discrete"),
    "dpmpp_2m": RefineConfig(steps=4, solver="dpmpp_2m", guidance=1.7),
    "dpmpp_2m_sde": RefineConfig(steps=4, solver="dpmpp_2m_sde", discretization="edm"),
    "unipc": RefineConfig(steps=4, solver="unipc", discretization="discrete", noise_schedule="cosine"),
}


@pytest.fixture(scope="module")
def model() -> Model:
    """A small network with random weights everywhere, also where training begins at zero."""
    generator = torch.Generator().manual_seed(5)
    net = UNet(UNetConfig(width=16, multipliers=(1, 2), unshuffle=2), SPEC, 3)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.15)
    denoiser = Preconditioned(net, PRECONDITIONINGS["flow"], 0.5).eval()
    return Model(denoiser, Identity(), SPEC, ("cat", "dog", "7"), RefineConfig(steps=4))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_picture_does_not_see_its_batch(model: Model, name: str) -> None:
    whole = sample(model, 65, seed=2**40 + 1, config=CONFIGS[name], batch=65)
    for batch, n in ((1, 5), (7, 16), (64, 65)):
        drawn = sample(model, n, seed=2**40 + 1, config=CONFIGS[name], batch=batch)
        assert np.abs(drawn.astype(int) - whole[:n].astype(int)).max() <= 1
    assert whole.std() > 10
    others = sample(model, 65, seed=1, config=CONFIGS[name], batch=65)
    assert not np.array_equal(whole, others)


class OnlyNoise:
    """A solver whose pictures are the fresh noise that it is handed."""

    def evaluations(self, steps: int) -> int:
        return 0

    def init(self, x: Tensor) -> Memory:
        return ()

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, cond: Condition, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        return noise("fresh"), ()


def noise_of(samples: Tensor, steps: int) -> Tensor:
    """What the samples begin with (no steps), or are handed in that step."""
    solver, schedule = OnlyNoise(), FlowTimes().levels(4)
    paths = begin(SPEC, samples, [schedule] * len(samples), solver, seed=2**40 + 1)
    for _ in range(steps):
        advance(paths, lambda x, at, cond: Prediction(x), solver, Condition(), seed=2**40 + 1)
    return paths.x


def test_half_precision_draws_nearly_the_same(model: Model) -> None:
    full, half = (sample(model, 8, seed=3, config=CONFIGS["heun"], precision=one) for one in ("float32", "bfloat16"))
    off = np.abs(full.astype(int) - half.astype(int))
    assert 0 < off.mean() < 3


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_noise_is_the_same_bits_in_any_batch(steps: int) -> None:
    samples = torch.arange(65)
    whole = noise_of(samples, steps)
    assert not torch.equal(whole, noise_of(samples, steps + 1))
    for batch in (1, 7, 64):
        assert torch.equal(torch.cat([noise_of(part, steps) for part in samples.split(batch)]), whole)


def test_a_draw_may_begin_anywhere(model: Model) -> None:
    whole = sample(model, 10, seed=4, batch=4)
    assert np.array_equal(np.concatenate([sample(model, 4, seed=4), sample(model, 4, first=4, seed=4)]), whole[:8])
    assert np.abs(sample(model, 5, first=5, seed=4).astype(int) - whole[5:].astype(int)).max() <= 1
    assert np.array_equal(
        sample(model, 2, first=8, label=["dog", "7"], seed=4), sample(model, 2, first=8, label=[1, 2], seed=4)
    )
    with pytest.raises(UserError, match="first is -1"):
        sample(model, 2, first=-1)


def test_a_guide_draws_at_the_same_size(model: Model) -> None:
    assert sample(model, 2, guide=model, guidance=2.0, size=(12, 16)).shape == (2, 12, 16, 1)
    other = dataclasses.replace(model, spec=dataclasses.replace(SPEC, channels=3, mode="RGB"))
    with pytest.raises(UserError, match="the same kind and classes"):
        sample(model, 2, guide=other, guidance=2.0, size=(12, 16))


@pytest.mark.parametrize("name", ["euler", "heun", "ddim"])
def test_samples_under_way_together_equal_each_alone(model: Model, name: str) -> None:
    """Different step counts in one batch, begun at different times, as a server mixes its requests."""
    config = CONFIGS[name]
    solver = SOLVERS[config.solver](config)
    counts, label = [2, 5, 3, 7], torch.tensor([0, 2, -1, 1])
    schedules = [DISCRETIZATIONS[config.discretization](config).levels(n) for n in counts]
    denoise = classifier_free(model.net, config.guidance, config.guidance_from, config.guidance_to)

    def finished(which: list[int], late: int = 0) -> Tensor:
        """Those samples; the last of them joins so many steps late."""
        samples = torch.tensor(which) + 100
        paths = begin(SPEC, samples, [schedules[i] for i in which], solver, seed=9)
        assert torch.equal(paths.x[-1:], random.normal(9, samples[-1:], "init", shape=SPEC.shape))
        cond, turn = Condition(label[which]), 0
        while not bool(paths.done.all()):
            going = ~paths.done
            going[-1] &= turn >= late
            turn += 1
            rows = going.nonzero().flatten()
            if not len(rows):
                continue
            part = dataclasses.replace(
                paths,
                x=paths.x[rows],
                samples=samples[rows],
                schedule=paths.schedule.index(rows),
                step=paths.step[rows],
            )
            advance(part, denoise, solver, cond.index(rows), seed=9)
            paths.x[rows], paths.step[rows] = part.x, part.step
        return paths.x

    together = finished([0, 1, 2, 3], late=2)
    for i in range(4):
        torch.testing.assert_close(together[i], finished([i])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_counted_cost(model: Model, name: str) -> None:
    seen = 0

    class Counting(Denoiser):
        def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
            nonlocal seen
            seen += len(x)
            out: Prediction = model.net(x, at, cond)
            return out

        parameters = model.net.parameters

    counted = dataclasses.replace(model, net=Counting())
    sample(counted, 2, config=CONFIGS[name])
    # Heun looks twice, of which the second may lie outside of the interval that the first lies in.
    assert seen / 2 == pytest.approx(evaluations(CONFIGS[name]), abs=1 if name == "heun" else 0)


def test_labels(model: Model) -> None:
    assert labels_for(model, 4, None).label.tolist() == [0, 1, 2, 0]
    assert labels_for(model, 2, "dog").label.tolist() == [1, 1]
    assert labels_for(model, 2, "7").label.tolist() == [2, 2]  # a name before a number
    assert labels_for(model, 2, "1").label.tolist() == [1, 1]
    assert labels_for(model, 2, [2, 0]).label.tolist() == [2, 0]
    for wrong, says in (
        ("dgo", "did you mean 'dog'"),
        ("", "known: 7, cat, dog"),
        ("--5", "'--5' is unknown"),
        ("²", "'²' is unknown"),
        ("1.0", "'1.0' is unknown"),
        ("9" * 5000, "is unknown"),
        ("3", "3 is out of range; this model has 3 classes, 0 to 2"),
        (3, "out of range"),
        (-1, "out of range"),
        ([1], "1 labels for 2"),
    ):
        with pytest.raises(UserError, match=says):
            labels_for(model, 2, wrong)


def test_unlabelled_models() -> None:
    net = Preconditioned(UNet(UNetConfig(width=16), SPEC, 0), PRECONDITIONINGS["edm"], 0.5)
    plain = Model(net, Identity(), SPEC, (), RefineConfig(steps=2))
    assert sample(plain, 3).shape == (3, 9, 7, 1)
    with pytest.raises(UserError, match="without labels"):
        sample(plain, 3, label=1)
    with pytest.raises(UserError, match="without labels"):
        sample(plain, 3, guidance=2.0)


def test_guidance_that_could_do_nothing_or_harm(model: Model) -> None:
    with pytest.raises(UserError, match="give --guidance"):
        sample(model, 2, guide=model, guidance=1.0)
    told = dataclasses.replace(model, unconditional=False)
    with pytest.raises(UserError, match=r"--objective\.label-dropout"):
        sample(told, 2, guidance=2.0)
    assert sample(told, 2, guidance=2.0, guide=model).shape == sample(told, 2).shape


def test_a_network_and_its_guide_draw_without_dropout(model: Model) -> None:
    net = UNet(UNetConfig(width=16, multipliers=(1,), unshuffle=2, dropout=0.9), SPEC, 3)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.linspace(-0.3, 0.3, p.numel()).reshape(p.shape))
    guide = dataclasses.replace(model, net=Preconditioned(net, PRECONDITIONINGS["flow"], 0.5).train())
    first, second = (sample(guide, 3, guide=guide, guidance=2.0, steps=2) for _ in range(2))
    assert np.array_equal(first, second)
    assert guide.net.training


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"solver": "huen"}, "did you mean 'heun'"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 10_001}, "steps is 10,001"),
        ({"config": RefineConfig(discretization="flwo")}, "did you mean 'flow'"),
        ({"config": RefineConfig(discretization="discrete", spacing="trailng")}, "did you mean 'trailing'"),
        ({"config": RefineConfig(discretization="discrete"), "steps": 1_001}, "1001 steps are more than the 1000"),
        ({"config": RefineConfig(discretization="discrete", noise_schedule="cosin")}, "did you mean 'cosine'"),
        ({"solver": "jump"}, "train one with: limner train consistency"),
        ({"n": 0}, "n is 0; give a number from 1"),
        ({"n": 10_000_001}, "n is 10,000,001"),
        ({"guidance": math.nan}, "guidance is nan"),
    ],
)
def test_settings_that_nobody_knows(model: Model, changes: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        sample(model, **{"n": 2, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"shift": 0.0},
        {"shift": -1.0},
        {"rho": 0.0},
        {"sigma_min": 0.0},
        {"sigma_max": math.inf},
        {"eta": 1.5},
        {"churn": -1.0},
        {"guidance_from": -0.1},
        {"guidance_to": math.nan},
    ],
    ids=str,
)
def test_numbers_that_no_picture_survives(changes: dict[str, float]) -> None:
    """All of these used to divide by zero, or to make pictures of NaN."""
    (name,) = changes
    with pytest.raises(UserError, match=f"{name} is .*; give a number from"):
        RefineConfig(**changes)  # type: ignore[arg-type]


def test_edm_levels_must_fall() -> None:
    with pytest.raises(UserError, match=r"sigma_min is 2\.0; give a number below sigma_max, 1\.0"):
        RefineConfig(sigma_min=2.0, sigma_max=1.0)


def test_jumps_are_neither_guided_nor_clipped(model: Model) -> None:
    net = UNet(UNetConfig(width=16), SPEC, 3, jumps=True)
    jumping = dataclasses.replace(model, net=PreconditionedFlowMap(net, PRECONDITIONINGS["flow"], 0.5))
    config = RefineConfig(steps=2, solver="jump")
    assert sample(jumping, 2, config=config).shape == (2, 9, 7, 1)
    for changes in ({"guidance": 2.0}, {"clip": True}, {"guidance": 0.0}):
        with pytest.raises(UserError, match="takes no guidance and no clipping"):
            resolve(jumping, dataclasses.replace(config, **changes))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="takes no guidance"):
        resolve(jumping, config, model, guidance=2.0)


def test_a_mistyped_solver_is_told_before_training() -> None:
    with pytest.raises(UserError, match="did you mean 'euler'"):
        evaluations(RefineConfig(solver="eulr"))


def test_progress_is_told_batch_by_batch(model: Model) -> None:
    done: list[int] = []
    sample(model, 5, batch=2, steps=1, on_progress=done.append)
    assert done == [2, 4, 5]


def test_pixels_survive_the_way_in_and_out() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    inside = (levels.float() - 127.5) / 127.5
    assert to_pixels(inside.reshape(1, 1, 16, 16), 8).ravel().tolist() == levels.tolist()
    assert to_pixels(torch.tensor([-9.0, 9.0]).reshape(1, 1, 1, 2), 8).ravel().tolist() == [0, 255]


def test_sampling_leaves_the_model_as_it_was(model: Model) -> None:
    model.net.train()
    state = torch.get_rng_state()
    sample(model, 2)
    assert model.net.training
    assert torch.equal(state, torch.get_rng_state())
    model.net.eval()
