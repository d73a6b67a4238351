from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.contracts import Condition, Generator, ImageSpec, Noise
from limner.errors import UserError
from limner.models import Critic, DCGANConfig
from limner.models.layers import BatchNorm
from limner.objectives import (
    ADA,
    AdamWConfig,
    Adversarial,
    AdversarialConfig,
    Batch,
    Clipping,
    Context,
    GradientPenalty,
    NoPenalty,
    ZeroCentredPenalty,
)
from limner.objectives.adversarial import GAMES, Game
from limner.objectives.penalties import Judged, Penalty

SPEC = ImageSpec(1, (4, 4), "L")
NUMBERS = st.floats(-20, 20)


class Line(Critic):
    """A linear score: its slope is its weight everywhere."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        return (x * self.weight).flatten(1).sum(1)


class Scaled(Generator):
    """z times a number."""

    code = 16

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def synthesize(self, w: Tensor, cond: Condition, noise: Noise) -> Tensor:
        return (w * self.scale).reshape(-1, 1, 4, 4)


def context(n: int, update: str = "critic") -> Context:
    return Context(0, torch.arange(n), update, 0.0)


def batch(n: int = 6) -> Batch:
    return Batch(torch.linspace(-1, 1, n * 16).reshape(n, 1, 4, 4), Condition(), torch.arange(n))


def objective(critic: Critic, generator: Generator | None = None, **settings: object) -> Adversarial:
    config = AdversarialConfig(**settings)  # type: ignore[arg-type]
    return Adversarial(generator or Scaled(), critic, config, AdamWConfig(), AdamWConfig(), 0)


@given(NUMBERS, NUMBERS)
def test_what_players_lose(real: float, made: float) -> None:
    """By the formulae, written out."""

    def log1pexp(x: float) -> float:
        return math.log1p(math.exp(x))

    expected: dict[Game, tuple[float, float]] = {
        "non-saturating": (log1pexp(-real) + log1pexp(made), log1pexp(-made)),
        "hinge": (max(0.0, 1 - real) + max(0.0, 1 + made), -made),
        "wasserstein": (made - real, -made),
        "relativistic": (log1pexp(made - real), log1pexp(real - made)),
    }
    assert expected.keys() == GAMES.keys()
    for name, (critic, generator) in expected.items():
        losing = GAMES[name]
        scores = torch.tensor([real], dtype=torch.float64), torch.tensor([made], dtype=torch.float64)
        assert float(losing.critic(*scores)) == pytest.approx(critic, rel=1e-6, abs=1e-8)
        assert float(losing.generator(*scores)) == pytest.approx(generator, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("game", GAMES)
def test_a_step_of_each_makes_it_lose_less(game: Game) -> None:
    torch.manual_seed(0)
    one = objective(Line(torch.randn(1, 4, 4)), game=game)
    optimizers = one.optimizers()
    losses: dict[str, Callable[[Batch, Context], dict[str, Tensor]]] = {
        "critic": one.critic_loss,
        "generator": one.generator_loss,
    }
    for name, loss in losses.items():
        before = loss(batch(), context(6, name))["loss"]
        one.zero_grad()
        before.backward()
        optimizers[name].step()
        assert float(loss(batch(), context(6, name))["loss"].detach()) < float(before.detach())


def penalised(penalty: Penalty, critic: Critic) -> Tensor:
    real, made = batch().images.clone().requires_grad_(), torch.zeros(6, 1, 4, 4).requires_grad_()
    cond = Condition()
    charged = penalty.loss(Judged(critic, cond, real, made, critic(real, cond), critic(made, cond)), context(6))
    assert charged is not None
    return charged


def test_penalties_of_a_known_slope() -> None:
    weight = torch.full((1, 4, 4), 0.5)  # its norm is 2
    critic = Line(weight)
    assert float(penalised(GradientPenalty(weight=10.0), critic).detach()) == pytest.approx(10.0 * (2 - 1) ** 2)
    assert float(penalised(ZeroCentredPenalty(gamma=3.0), critic).detach()) == pytest.approx(3.0 / 2 * 4)
    both = penalised(ZeroCentredPenalty(gamma=3.0, both=True), critic)
    assert float(both.detach()) == pytest.approx(3.0 * 4)
    both.backward()  # of gamma |w|²: 2 gamma w
    torch.testing.assert_close(critic.weight.grad, 2 * 3.0 * weight)
    nothing = Judged(critic, Condition(), *[torch.zeros(1)] * 4)
    assert NoPenalty().loss(nothing, context(1)) is None


def test_a_lazy_penalty_is_as_much_in_fewer_looks() -> None:
    critic = Line(torch.full((1, 4, 4), 0.5))
    lazy = objective(critic, penalty=ZeroCentredPenalty(gamma=3.0, every=8))
    update = next(update for update in lazy.updates() if update.name == "penalty")
    assert (update.every, update.params) == (8, ("critic",))
    assert float(update.loss(batch(), context(6))["loss"].detach()) == pytest.approx(8 * 3.0 / 2 * 4)
    assert "penalty" not in lazy.critic_loss(batch(), context(6))
    busy = objective(critic, penalty=ZeroCentredPenalty(gamma=3.0))
    assert [update.name for update in busy.updates()] == ["critic", "generator"]


def test_settings_of_styles_need_styles() -> None:
    with pytest.raises(UserError, match="for generators with styles"):
        objective(Line(torch.ones(1, 4, 4)), mixing=0.9)


def test_the_likelihood_of_changes_follows_the_whole_batch() -> None:
    one = objective(Line(torch.ones(1, 4, 4)), augment=ADA(images=1000))
    after = next(update.after for update in one.updates() if update.name == "critic")
    assert after is not None
    after(Context(0, torch.arange(6), "critic", 0.0, batch=100), {"real": torch.tensor(0.9)})
    assert float(one.strength) == pytest.approx(0.1)
    assert float(one.critic_loss(batch(), context(6))["augmented"]) == pytest.approx(0.1)


def test_clipping_bounds_weights() -> None:
    critic = Line(torch.linspace(-1, 1, 16).reshape(1, 4, 4))
    one = objective(critic, game="wasserstein", penalty=Clipping(limit=0.25))
    after = next(update.after for update in one.updates() if update.name == "critic")
    assert after is not None
    after(context(6), {})
    assert float(critic.weight.detach().abs().max()) == 0.25
    assert float(critic.weight.detach().abs().min()) == pytest.approx(1 / 15)


def test_right_and_wrong_judgements_are_counted() -> None:
    """Bright pictures are real and dark ones made: this critic knows half of the real ones, and of the made ones those
    that are dark."""
    images = torch.cat([torch.full((3, 1, 4, 4), 0.5), torch.full((3, 1, 4, 4), -0.5)])
    told = objective(Line(torch.ones(1, 4, 4))).critic_loss(Batch(images, Condition(), torch.arange(6)), context(6))
    dark = context(6).noise("code", (16,)).sum(1) < 0
    assert float(told["real"]) == 0.5
    assert float(told["made"]) == pytest.approx(float(dark.float().mean()))


@pytest.mark.parametrize("game", ["wasserstein", "relativistic"])
def test_judgements_of_differences_do_not_see_the_batch(game: Game) -> None:
    """Each picture is held against another, so that the shares of parts of a batch are those of the whole."""
    one, whole = objective(Line(torch.randn(1, 4, 4)), game=game), batch(8)
    told = one.critic_loss(whole, context(8))
    parts = [slice(0, 3), slice(3, 8)]
    each = [one.critic_loss(whole.index(part), Context(0, torch.arange(8)[part], "critic", 0.0)) for part in parts]
    for name in ("real", "made", "loss"):
        assert float(told[name].detach()) == pytest.approx(float((3 * each[0][name] + 5 * each[1][name]).detach()) / 8)


def test_settled_averages_see_what_they_draw() -> None:
    """Batch norms of averaged weights have the statistics of what these weights make of many codes."""
    generator = DCGANConfig(width=8, code=8).generator(ImageSpec(1, (14, 14), "L"), 3)
    one = Adversarial(
        generator, Line(torch.zeros(1, 14, 14)), AdversarialConfig(), AdamWConfig(), AdamWConfig(), classes=3
    )
    averaged = nn.ModuleDict({"generator": DCGANConfig(width=8, code=8).generator(ImageSpec(1, (14, 14), "L"), 3)})
    averaged.eval()
    wrong = {name: value.clone() for name, value in averaged.state_dict().items()}
    with torch.no_grad():
        one.settle(averaged)
    net = averaged["generator"]
    assert isinstance(net, Generator)
    assert not net.training
    for name, value in averaged.state_dict().items():
        assert torch.equal(value, wrong[name]) != ("running" in name or "batches" in name), name
    told = context(4000, "elsewhere")
    cond = Condition(torch.arange(4000) % 3)
    seen: list[Tensor] = []
    norm = next(part for part in net.modules() if isinstance(part, BatchNorm))
    norm.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        one.made(net, cond, told)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    spread = seen[0].var((0, 2, 3))
    torch.testing.assert_close(norm.running_var, spread, rtol=0.1, atol=0)
    assert float(((norm.running_mean - seen[0].mean((0, 2, 3))) / spread.sqrt()).abs().max()) < 0.1


def test_advice_where_something_is_wrong_and_only_there() -> None:
    one = objective(Line(torch.ones(1, 4, 4)))
    fine = {"critic/real": 0.8, "critic/made": 0.75}
    assert one.advice(fine, 0.9) == []
    assert one.advice(fine, None) == []
    (collapsed,) = one.advice(fine, 0.1)
    assert "10% of the variety" in collapsed
    (sure,) = one.advice({"critic/real": 0.99, "critic/made": 0.995}, 0.9)
    assert "--objective.augment.kind ada" in sure
    (blind,) = one.advice({"critic/real": 0.5, "critic/made": 0.52}, 0.9)
    assert "by chance" in blind
    assert (
        objective(Line(torch.ones(1, 4, 4)), game="wasserstein").advice({"critic/real": 1.0, "critic/made": 1.0}, 1.0)
        == []
    )
