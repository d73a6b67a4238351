"""Flow maps on a Gaussian, whose paths and jumps are known: each point keeps its quantile."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from limner.contracts import Condition, Denoiser, FlowMap, Level, Prediction
from limner.errors import UserError
from limner.models import PRECONDITIONINGS, PreconditionedFlowMap
from limner.objectives import (
    AdamWConfig,
    Batch,
    Context,
    FlowMapConfig,
    FlowMapping,
    MatchedFlowMapping,
    MatchingConfig,
)

MEAN, STD = 0.3, 0.4


def spread(at: Level, x: Tensor) -> tuple[Tensor, Tensor]:
    alpha, sigma = at.like(x)
    return alpha * MEAN, (alpha**2 * STD**2 + sigma**2).sqrt()


class Known(Denoiser):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.modes: list[bool] = []

    def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
        self.modes.append(self.training)
        alpha, _ = at.like(x)
        mean, std = spread(at, x)
        return Prediction(MEAN + alpha * STD**2 / std**2 * (x - mean) + self.weight)


class Silent(nn.Module):
    """A network that is never asked."""

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None, to: Tensor | None = None) -> Tensor:
        raise AssertionError


class KnownMap(PreconditionedFlowMap):
    """The Gaussian's own map, moved by ``off``, for which the mean's gradient is known."""

    def __init__(self) -> None:
        super().__init__(Silent(), PRECONDITIONINGS["flow"], STD)
        self.off = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def average(self, x: Tensor, at: Level, to: Level, cond: Condition) -> Prediction:
        (mean, std), (next_mean, next_std) = spread(at, x), spread(to, x)
        landed = next_mean + (x - mean) / std * next_std
        still = (at.sigma == to.sigma).reshape(-1, 1, 1, 1)
        by = torch.where(still, Known()(x, at, cond).x0, Prediction.of_move(x, at, landed, to).x0)
        return Prediction(by + self.off)


def batch(count: int) -> tuple[Batch, Context]:
    samples = torch.arange(count)
    noise = torch.randn(count, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Batch(MEAN + STD * noise, Condition(), samples), Context(11, samples, "map", 0.0)


def loss(config: FlowMapConfig, teacher: Denoiser | None = None) -> float:
    return FlowMapping(KnownMap(), teacher, config, AdamWConfig()).loss(*batch(400))["loss"].item()


def test_the_true_map_has_no_loss_with_a_true_teacher() -> None:
    """But for the small steps' own error, which falls with the square of their number as a path is one of Euler's."""
    losses = [loss(FlowMapConfig(anchor=0.0, fineness=n), Known()) for n in (32, 64, 128)]
    assert losses[-1] < 1e-4
    assert losses[0] > 2 * losses[1] > 4 * losses[2]


def test_an_anchor_is_plain_flow_matching() -> None:
    """Without a teacher its target is the picture: the squared error of the velocity."""
    config = FlowMapConfig(anchor=1.0)
    data, context = batch(400)
    t = config.level(context.spread("level")).sigma.double().reshape(-1, 1, 1, 1)
    x = (1 - t) * data.images + t * context.noise("noise", (1, 2, 2))
    guess = Known()(x, Level(1 - t.flatten(), t.flatten()), Condition()).x0
    by_hand = ((guess - data.images) / t.clamp_min(0.02)).square().mean()
    assert loss(config) == pytest.approx(float(by_hand), rel=1e-3)


@pytest.mark.parametrize("steps", [(1,), (2,), (4,), (1, 3)])
def test_jumps_end_where_sampling_stops(steps: tuple[int, ...]) -> None:
    """On the levels that the sampler's discretization visits with as many steps and the same shift."""
    from limner.sampling import FlowTimes

    config = FlowMapConfig(steps=steps, anchor=0.0, shift=2.0)
    way = FlowMapping(KnownMap(), None, config, AdamWConfig())._way(batch(400)[1])
    stops = torch.cat([FlowTimes(shift=2.0).levels(n).sigma[1:] for n in steps]).unique()
    near = (way.to.sigma[:, None] - stops).abs().min(dim=1).values
    assert float(near.max()) < 1e-6
    assert set((way.to.sigma[:, None] - stops).abs().argmin(dim=1).tolist()) == set(range(len(stops)))
    assert bool((way.at.sigma >= way.soon.sigma).all())
    assert bool((way.soon.sigma >= way.to.sigma).all())


def test_gradients_reach_the_map_alone_and_through_one_evaluation() -> None:
    """The target moves with the map, but no gradient goes through it: that of the loss is twice the mean error."""
    teacher, student = Known(), KnownMap()
    student.off.data.fill_(0.1)
    objective = FlowMapping(student, teacher, FlowMapConfig(anchor=0.0), AdamWConfig()).train()
    data, context = batch(50)
    objective.loss(data, context)["loss"].backward()
    taught = objective.taught(data, context)
    assert student.off.grad is not None
    torch.testing.assert_close(student.off.grad, (2 * taught.error.detach() / taught.unit).mean())
    assert teacher.weight.grad is None
    assert teacher.modes == [False, False]


def test_both_ends_of_a_small_step_have_one_dropout() -> None:
    """A map that says one picture of every point, but by chance another each time, is right: both ends land on it."""

    class Dropping(KnownMap):
        def average(self, x: Tensor, at: Level, to: Level, cond: Condition) -> Prediction:
            return Prediction(torch.rand(()) + torch.zeros_like(x))

    taught = FlowMapping(Dropping(), Known(), FlowMapConfig(anchor=0.0), AdamWConfig()).taught(*batch(50))
    jumping = ~taught.way.short
    assert int(jumping.sum()) > 20
    assert float(taught.error[jumping].abs().max()) < 1e-6


def test_a_small_network_learns_to_draw_in_a_few_jumps() -> None:
    """From the pictures alone: mean and spread of what two jumps and four make of noise."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))

        def forward(self, x: Tensor, noise: Tensor, label: Tensor | None, to: Tensor | None = None) -> Tensor:
            end = noise if to is None else to
            told = torch.stack([x.flatten(), noise, end], dim=1)
            out: Tensor = self.layers(told).reshape(x.shape)
            return out

    net = PreconditionedFlowMap(Small(), PRECONDITIONINGS["flow"], STD, (MEAN,))
    objective = FlowMapping(net, None, FlowMapConfig(steps=(1, 2, 4), fineness=16, shift=1.0), AdamWConfig(lr=3e-3))
    (optimizer,) = objective.optimizers().values()
    for step in range(600):
        samples = torch.arange(step * 256, step * 256 + 256)
        context = Context(3, samples, "map", 0.0)
        images = MEAN + STD * Context(4, samples, "data", 0.0).noise("x", (1, 1, 1))
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / 600)
        objective.loss(Batch(images, Condition(), samples), context)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert isinstance(net, FlowMap)
    start = Context(5, torch.arange(4000), "init", 0.0).noise("x", (1, 1, 1))
    for stops in ((1.0, 0.75, 0.5, 0.25, 0.0), (1.0, 0.5, 0.0)):
        x = start
        with torch.no_grad():
            for a, b in itertools.pairwise(stops):
                at, to = (Level(torch.full((4000,), 1 - t), torch.full((4000,), t)) for t in (a, b))
                x = net.jump(x, at, to, Condition())
        assert float(x.mean()) == pytest.approx(MEAN, abs=0.04)
        assert float(x.std()) == pytest.approx(STD, abs=0.06)


@pytest.mark.parametrize("noise", [(0.5, 0.4), (-0.1, 0.5), (0.1, 1.0), (float("nan"), 0.5)])
def test_levels_at_which_nothing_can_be_matched(noise: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"objective\.matching\.noise"):
        MatchingConfig(noise=noise)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"steps": ()}, "objective.steps"), ({"steps": (0, 2)}, "from 1 to 24"), ({"anchor": 2}, "anchor")],
)
def test_settings_that_cannot_be(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        FlowMapConfig(**changes)  # type: ignore[arg-type]


def matched(config: FlowMapConfig) -> MatchedFlowMapping:
    return MatchedFlowMapping(KnownMap(), Known(), Known(), config, AdamWConfig(lr=0.02))  # type: ignore[arg-type]


def by_said(objective: FlowMapping) -> Tensor:
    """The loss's gradient for what the map says."""
    seen: list[Tensor] = []
    average = objective.denoiser.average

    def noted(x: Tensor, at: Level, to: Level, cond: Condition) -> Prediction:
        out = average(x, at, to, cond)
        if out.x0.requires_grad:  # not where the target is looked up
            out.x0.retain_grad()
            seen.append(out.x0)
        return out

    objective.denoiser.average = noted  # type: ignore[method-assign]
    data, context = batch(200)
    objective.loss(data, context)["loss"].backward()
    gradient = seen[-1].grad
    assert gradient is not None
    return gradient


def test_the_teachers_own_distribution_is_left_alone() -> None:
    config = FlowMapConfig()
    plain = FlowMapping(KnownMap(), Known(), config, AdamWConfig())
    torch.testing.assert_close(by_said(matched(config)), by_said(plain), rtol=0, atol=0)


def test_matching_pulls_by_what_tells_the_two_apart() -> None:
    """The other denoiser says pictures brighter by 0.2 everywhere, as if drawn ones were: the path's end moves down by
    the share of it that was asked for, where a picture was drawn from much noise, and nowhere else."""
    config = FlowMapConfig(steps=(1, 2), anchor=0.3, matching=MatchingConfig(pull=0.25, above=0.6))
    plain, objective = FlowMapping(KnownMap(), Known(), config, AdamWConfig()), matched(config)
    with torch.no_grad():
        objective.other.weight.fill_(0.2)  # type: ignore[union-attr, operator]
    apart = by_said(objective) - by_said(plain)
    way = objective._way(batch(200)[1])
    there = (way.to.sigma == 0) & (way.at.sigma >= 0.6)
    assert 0 < int(there.sum()) < 200
    expected = 2 * 0.25 * 0.2 / way.at.sigma[there].double().square() / apart.numel()
    torch.testing.assert_close(apart[there], expected.reshape(-1, 1, 1, 1).expand_as(apart[there]))
    assert float(apart[~there].abs().max()) == 0


def test_a_matched_batch_is_the_mean_of_its_parts() -> None:
    """As several processes, or micro-batches, have it."""
    objective = matched(FlowMapConfig(steps=(1, 2)))
    with torch.no_grad():
        objective.other.weight.fill_(0.2)  # type: ignore[union-attr, operator]
    data, context = batch(12)
    parts = []
    for part in (slice(0, 8), slice(8, 12)):
        some = Batch(data.images[part], Condition(), data.samples[part])
        told = objective.loss(some, Context(11, data.samples[part], "map", 0.0))["loss"]
        parts.append(told * len(some.samples) / 12)
    torch.testing.assert_close(sum(parts), objective.loss(data, context)["loss"], rtol=1e-12, atol=0)


def test_the_other_denoiser_learns_what_is_drawn() -> None:
    """Pictures that are too bright by 0.5: so is what it says, and matching then pulls towards darker ones."""
    objective = matched(FlowMapConfig(anchor=0.0))
    with torch.no_grad():
        objective.denoiser.off.fill_(0.5)  # type: ignore[union-attr, operator]
    optimizer = objective.optimizers()["other"]
    for step in range(100):
        samples = torch.arange(64 * step, 64 * step + 64)
        context = Context(7, samples, "map", 0.0, dtype=torch.float64)
        data = Batch(MEAN + STD * context.noise("data", (1, 4, 4)), Condition(), samples)
        told = objective.loss(data, context)
        told["loss"].backward()
        optimizer.step()
        objective.zero_grad()
        if step == 0:
            first = told["other"].item()
            assert told["difference"].item() == 0
    assert told["other"].item() < first
    assert objective.other.weight.item() > 0.03  # type: ignore[union-attr, operator]
    assert objective.teacher.weight.item() == 0  # type: ignore[union-attr, operator]
    with torch.no_grad():
        objective.denoiser.off.zero_()  # type: ignore[union-attr, operator]
    plain = FlowMapping(KnownMap(), Known(), objective.config, AdamWConfig())
    assert float((by_said(objective) - by_said(plain)).mean()) > 0  # downhill is darker
