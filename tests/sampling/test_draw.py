from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from limner import random
from limner.codecs import Identity
from limner.contracts import Condition, ImageSpec, Level, Model, Prediction, SampleConfig
from limner.errors import UserError
from limner.models import PRECONDITIONINGS, Preconditioned, UNet, UNetConfig
from limner.sampling import SOLVERS, advance, begin, classifier_free, evaluations, labels_for, sample, to_uint8
from limner.sampling.draw import discretization

SPEC = ImageSpec(1, (9, 7), "L")
CONFIGS = {
    "euler": SampleConfig(steps=4, solver="euler", guidance=1.7),
    "heun": SampleConfig(steps=4, solver="heun", guidance=1.7, guidance_from=0.2, guidance_to=0.8),
    "churn": SampleConfig(steps=4, solver="heun", churn=1.0, discretization="edm"),
    "ddim": SampleConfig(steps=4, solver="ddim", eta=1.0),
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
    return Model(denoiser, Identity(), SPEC, ("cat", "dog", "7"), SampleConfig(steps=4))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_picture_does_not_see_its_batch(model: Model, name: str) -> None:
    whole = sample(model, 65, seed=2**40 + 1, config=CONFIGS[name], batch=65)
    for batch in (1, 7, 64):
        drawn = sample(model, 65, seed=2**40 + 1, config=CONFIGS[name], batch=batch)
        assert np.abs(drawn.astype(int) - whole.astype(int)).max() <= 1
    assert whole.std() > 10
    others = sample(model, 65, seed=1, config=CONFIGS[name], batch=65)
    assert not np.array_equal(whole, others)


@pytest.mark.parametrize("name", ["euler", "heun", "ddim"])
def test_samples_under_way_together_equal_each_alone(model: Model, name: str) -> None:
    """Different step counts in one batch, begun at different times, as a server mixes its requests."""
    config = CONFIGS[name]
    solver = SOLVERS[config.solver](config)
    counts, label = [2, 5, 3, 7], torch.tensor([0, 2, -1, 1])
    schedules = [discretization(dataclasses.replace(config, steps=n)).levels(n) for n in counts]
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


def test_guidance_is_linear_and_costs_only_where_it_is_on() -> None:
    rows: list[int] = []

    def denoise(x: Tensor, at: Level, cond: Condition) -> Prediction:
        assert cond.label is not None
        rows.append(len(x))
        return Prediction(x * (cond.label.reshape(-1, 1, 1, 1) + 2))

    x, label = torch.ones(3, 1, 2, 2), torch.tensor([0, 1, 4])
    alpha = torch.tensor([0.1, 0.5, 0.9])
    at, cond = Level(alpha, 1 - alpha), Condition(label)
    assert classifier_free(denoise, 1.0) is denoise
    full = classifier_free(denoise, 3.0)(x, at, cond).x0[:, 0, 0, 0]
    torch.testing.assert_close(full, 1 + 3 * (label + 2.0 - 1))
    assert rows == [6]
    rows.clear()
    part = classifier_free(denoise, 3.0, 0.4, 0.6)(x, at, cond).x0[:, 0, 0, 0]
    torch.testing.assert_close(part, torch.tensor([2.0, 7.0, 6.0]))
    assert rows == [4]
    rows.clear()
    classifier_free(denoise, 3.0, 0.95, 1.0)(x, at, cond)
    assert rows == [3]


@pytest.mark.parametrize("name", CONFIGS)
def test_counted_cost(model: Model, name: str) -> None:
    seen = 0

    class Counting(torch.nn.Module):
        def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
            nonlocal seen
            seen += len(x)
            out: Prediction = model.net(x, at, cond)
            return out

        parameters = model.net.parameters

    counted = dataclasses.replace(model, net=Counting())  # type: ignore[arg-type]
    sample(counted, 2, config=CONFIGS[name])
    assert seen / 2 == pytest.approx(evaluations(CONFIGS[name]), abs=1.5)


def test_labels(model: Model) -> None:
    assert labels_for(model, 4, None).label.tolist() == [0, 1, 2, 0]
    assert labels_for(model, 2, "dog").label.tolist() == [1, 1]
    assert labels_for(model, 2, "7").label.tolist() == [2, 2]  # a name before a number
    assert labels_for(model, 2, "1").label.tolist() == [1, 1]
    assert labels_for(model, 2, [2, 0]).label.tolist() == [2, 0]
    for wrong, says in (
        ("dgo", "did you mean 'dog'"),
        (3, "out of range"),
        (-1, "out of range"),
        ([1], "1 labels for 2"),
    ):
        with pytest.raises(UserError, match=says):
            labels_for(model, 2, wrong)


def test_unlabelled_models() -> None:
    net = Preconditioned(UNet(UNetConfig(width=16), SPEC, 0), PRECONDITIONINGS["edm"], 0.5)
    plain = Model(net, Identity(), SPEC, (), SampleConfig(steps=2))
    assert sample(plain, 3).shape == (3, 9, 7, 1)
    with pytest.raises(UserError, match="without labels"):
        sample(plain, 3, label=1)
    with pytest.raises(UserError, match="without labels"):
        sample(plain, 3, guidance=2.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"solver": "huen"}, "did you mean 'heun'"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 10_001}, "steps is 10001"),
        ({"config": SampleConfig(discretization="flwo")}, "did you mean 'flow'"),
    ],
)
def test_settings_that_nobody_knows(model: Model, changes: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        sample(model, 2, **changes)  # type: ignore[arg-type]


def test_pixels_survive_the_way_in_and_out() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    inside = (levels.float() - 127.5) / 127.5
    assert to_uint8(inside.reshape(1, 1, 16, 16)).ravel().tolist() == levels.tolist()
    assert to_uint8(torch.tensor([-9.0, 9.0]).reshape(1, 1, 1, 2)).ravel().tolist() == [0, 255]


def test_sampling_leaves_the_model_as_it_was(model: Model) -> None:
    model.net.train()
    state = torch.get_rng_state()
    sample(model, 2)
    assert model.net.training
    assert torch.equal(state, torch.get_rng_state())
    model.net.eval()
