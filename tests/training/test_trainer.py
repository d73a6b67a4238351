from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from limner import random
from limner.contracts import Condition, ImageSpec
from limner.objectives import Batch, Context, Losses, Objective, Optimizers, Update
from limner.training.config import TrainingConfig
from limner.training.costs import counted, flops_per_image
from limner.training.ema import EMA, ema_decay
from limner.training.schedules import Constant, Cooldown, Cosine
from limner.training.trainer import Trainer


def batches(first: int, count: int) -> Batch:
    """Every picture holds its own place in the run."""
    samples = torch.arange(first, first + count)
    return Batch(samples.float().reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone(), Condition(), samples)


class Line(Objective):
    """Fits w so that w x = 3 x: gradient descent on a parabola, solvable by hand."""

    ema = ("net",)

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.net.weight)
        self.lr = lr

    def optimizers(self) -> Optimizers:
        return {"sgd": torch.optim.SGD(self.net.parameters(), lr=self.lr)}

    def updates(self) -> list[Update]:
        return [Update("fit", ("sgd",), ("net",), self.loss)]

    def loss(self, batch: Batch, context: Context) -> Losses:
        x = batch.images[:, 0, 0, :1] / 100
        return {"loss": (self.net(x) - 3 * x).square().mean()}


def trainer(objective: Objective, images: int = 640, **settings: object) -> Trainer:
    config = TrainingConfig(**({"batch": 16, "clip": 0.0, "schedule": Constant(warm_up=0)} | settings))  # type: ignore[arg-type]
    return Trainer(objective, config, batches, images=images, precision="float32", seed=1)


def test_gradient_descent_by_hand() -> None:
    run, w, mean = trainer(Line(lr=0.5)), 0.0, 0.0
    for i in range(5):
        run.iterate()
        x = [(16 * i + j) / 100 for j in range(16)]
        w -= 0.5 * sum(2 * (w - 3) * v * v for v in x) / 16
        mean += (1 - ema_decay(16, 16 * i, 0.05 * 640, 0.1)) * (w - mean)
    assert run.progress.seen == 80
    assert run.progress.iteration == 5
    assert float(run.objective.net.weight.detach()) == pytest.approx(w, rel=1e-5)
    assert float(run.state.ema.modules["net"].weight) == pytest.approx(mean, rel=1e-5)


@given(st.integers(1, 16))
def test_accumulation_changes_nothing(parts: int) -> None:
    whole, cut = trainer(Line()), trainer(Line(), accumulate=parts)
    for _ in range(3):
        logged, other = whole.iterate(), cut.iterate()
    assert float(cut.objective.net.weight) == pytest.approx(float(whole.objective.net.weight), rel=1e-5)
    assert float(other["loss"]) == pytest.approx(float(logged["loss"]), rel=1e-5)


def test_attention_is_counted_as_its_products_are() -> None:
    q, k, v = (torch.randn(2, 3, 10, 8, requires_grad=True) for _ in range(3))

    def by_products() -> None:
        ((q @ k.transpose(2, 3)).softmax(-1) @ v).sum().backward()

    forward = counted(lambda: F.scaled_dot_product_attention(q, k, v))
    assert forward == counted(lambda: (q @ k.transpose(2, 3)).softmax(-1) @ v)
    # Torch's own keeps no scores: its backward pass has those of the forward pass once more.
    both = counted(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward())
    assert both == counted(by_products) + forward / 2


def test_operations_are_counted_without_a_picture() -> None:
    """A stream would decode a block for it. One weight: a product and a sum forward, and as much for its gradient."""

    def refuse(first: int, count: int) -> Batch:
        raise AssertionError("a picture was asked for")

    run = Trainer(Line(), TrainingConfig(), refuse, images=64, precision="float32", seed=1)
    assert flops_per_image(run.objective, ImageSpec(1, (2, 2), "L"), labelled=False) == 2 * 2


def test_clipping_bounds_the_step() -> None:
    run = trainer(Line(lr=1.0), clip=1e-3)
    run.iterate()
    assert float(run.objective.net.weight.abs()) == pytest.approx(1e-3, rel=1e-4)


class Players(Objective):
    """Two players that write down what they were given."""

    ema = ("generator",)

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.critic = nn.Linear(1, 1), nn.Linear(1, 1)
        self.calls: list[tuple[str, int, bool, bool]] = []
        self.after: list[str] = []

    def optimizers(self) -> Optimizers:
        return {
            name: torch.optim.SGD(self.get_submodule(name).parameters(), lr=0.1) for name in ("generator", "critic")
        }

    def updates(self) -> list[Update]:
        return [
            Update("critic", ("critic",), ("critic",), self._loss("critic"), repeat=3, after=self._after),
            Update("generator", ("generator",), ("generator",), self._loss("generator")),
            Update("r1", ("critic",), ("critic",), self._loss("r1"), every=2),
        ]

    def _after(self, context: Context, told: Losses) -> None:
        self.after.append(context.update)

    def _loss(self, name: str) -> Callable[[Batch, Context], Losses]:
        def loss(batch: Batch, context: Context) -> Losses:
            trains = [p.requires_grad for p in (self.generator.weight, self.critic.weight)]
            self.calls.append((name, int(batch.samples[0]), trains[0], trains[1]))
            value: Tensor = self.critic(self.generator(batch.images[:, 0, 0, :1])).mean()
            return {"loss": value}

        return loss


def test_players_take_turns_with_fresh_data_and_the_others_frozen() -> None:
    objective = Players()
    run = trainer(objective)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    logged = run.iterate()
    run.iterate()
    assert objective.calls == [
        ("critic", 0, False, True),
        ("critic", 16, False, True),
        ("critic", 32, False, True),
        ("generator", 0, True, False),
        ("r1", 0, False, True),
        ("critic", 48, False, True),
        ("critic", 64, False, True),
        ("critic", 80, False, True),
        ("generator", 48, True, False),
    ]
    assert objective.after == ["critic"] * 6
    assert run.progress.seen == 96
    players = ("critic", "generator", "r1")
    assert set(logged) == {f"{player}/{what}" for player in players for what in ("loss", "gradient_norm")}
    assert all(not torch.equal(before[name], value) for name, value in objective.state_dict().items())


class Noisy(Line):
    """Uses the default generator, as dropout does."""

    def loss(self, batch: Batch, context: Context) -> Losses:
        self.drawn = torch.rand(3)
        return super().loss(batch, context)


def test_default_randomness_is_keyed_and_left_as_it_was() -> None:
    drawn = []
    for disturb in (False, True):
        objective = Noisy()
        run = trainer(objective)
        for _ in range(3):
            if disturb:
                torch.rand(5)
            state = torch.get_rng_state()
            run.iterate()
            assert torch.equal(state, torch.get_rng_state())
        drawn.append(objective.drawn)
    assert torch.equal(*drawn)
    with random.scoped(1, "a"):
        a = torch.rand(4)
    with random.scoped(1, "b"):
        b = torch.rand(4)
    with random.scoped(1, "a"):
        assert torch.equal(a, torch.rand(4))
    assert not torch.equal(a, b)


def test_schedules_at_their_corners() -> None:
    cosine, cool, constant = Cosine(warm_up=10), Cooldown(warm_up=10, cool_down=0.4), Constant(warm_up=10)
    assert [one(5, 0.0) for one in (cosine, cool, constant)] == [0.5, 0.5, 0.5]
    assert [cosine(99, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.5, 0])
    assert [cool(99, p) for p in (0.0, 0.6, 0.8, 1.0)] == pytest.approx([1, 1, 0.5, 0])
    assert [constant(99, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1, 1, 1])


@given(
    st.integers(1, 10**9),
    st.floats(0, 1),
    st.sampled_from([Cosine(), Cooldown(), Constant(), Cooldown(cool_down=0.0), Cosine(warm_up=0)]),
)
def test_factors_stay_between_zero_and_one(step: int, progress: float, schedule: Callable[[int, float], float]) -> None:
    assert 0 <= schedule(step, progress) <= 1


def networks(run: Trainer) -> list[Tensor]:
    return [*run.objective.parameters(), *run.state.ema.modules.parameters()]


def test_a_length_told_later_changes_nothing_before_the_rate_falls() -> None:
    """This is what lets a budget in minutes be measured by the run itself."""
    known, told = (trainer(Line(), schedule=Cooldown(warm_up=3, cool_down=0.5)) for _ in range(2))
    told.images = None
    for run in (known, told):
        for _ in range(10):  # a quarter of 640 images
            run.iterate()
    told.images = 640
    while not known.done:
        assert not told.done
        for run in (known, told):
            run.iterate()
    assert told.done
    for a, b in zip(networks(known), networks(told), strict=True):
        assert torch.equal(a, b)


def test_the_average_forgets_its_start_and_halves_in_its_half_life() -> None:
    assert ema_decay(16, 0, 1000, 0.1) == 0
    assert ema_decay(1000, 10**9, 1000, 0.1) == pytest.approx(0.5)
    assert math.prod(ema_decay(10, 10**9, 1000, 0.1) for _ in range(100)) == pytest.approx(0.5)


def test_the_average_copies_buffers() -> None:
    root = nn.Module()
    root.net = nn.BatchNorm1d(2)
    ema = EMA(root, ("net",))
    root.net.running_mean.fill_(3.0)
    root.net.num_batches_tracked.fill_(7)
    ema.update(0.9, torch.tensor(True))
    assert torch.equal(ema.modules["net"].running_mean, root.net.running_mean)
    assert int(ema.modules["net"].num_batches_tracked) == 7
