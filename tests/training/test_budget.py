from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.errors import UserError
from limner.training.budget import Pace, Plan, measuring_seconds, plan_images, plan_minutes, settled
from limner.training.config import Budget, TrainingConfig, WatchConfig
from limner.training.schedules import Constant, Cooldown, Cosine, Schedule


def planned(minutes: float, pace: Pace, **watch: object) -> Plan:
    return plan_minutes(minutes, pace, 16, "float32", WatchConfig(**watch), evaluations=19)  # type: ignore[arg-type]


def test_minutes_become_images() -> None:
    """120 s of 600 are spent; 3 % are kept back, and so is the time of the last grids, 19 / 3 of an image a sample."""
    last = 2 * 40 * 19 / 3 / 100
    plan = planned(10, Pace(10_000, 100.0, 120.0), grids=0, judge=0)
    assert plan.images == pytest.approx(10_000 + 100 * (600 * 0.97 - 120 - last), abs=8)
    assert plan.images_per_second == 100


def test_a_grid_that_seems_to_take_longer_than_the_run_leaves_its_training() -> None:
    """Four images a second beside another training: by that pace a grid of 64 takes 203 s of 120."""
    plan = planned(2, Pace(64, 4.0, 16.0))
    assert plan.grids == 0
    assert plan.images == pytest.approx(64 + 4 * (120 * 0.87 - 16), abs=8)


def test_guidances_are_tried_in_a_small_share_of_the_budget() -> None:
    """Three of them in 4 % of it, where that buys samples enough to tell."""
    for minutes, rate, tries in ((10, 100.0, 0), (30, 600.0, 2000), (30, 200.0, 757), (30, 70.0, 0)):
        plan = planned(minutes, Pace(10_000, rate, 60.0), guidances=(2.0, 3.0))
        assert plan.tries == tries
        assert 3 * plan.tries * 19 / 3 / rate <= 0.04 * 60 * minutes
    assert planned(30, Pace(10_000, 200.0, 60.0), guidances=(2.0,)).tries > 757
    assert planned(30, Pace(10_000, 200.0, 60.0), judge=299).tries == 0


@given(st.floats(0.05, 10**4), st.integers(1, 10**6), st.floats(1e-3, 1e5), st.floats(0, 1e4))
def test_a_run_is_settled_before_its_rate_falls(minutes: float, seen: int, rate: float, seconds: float) -> None:
    plan = planned(minutes, Pace(16 * seen, rate, seconds))
    assert plan.images >= 2 * 16 * seen
    assert plan.images % 16 == 0
    assert 0 <= plan.grids <= 12


def test_a_run_is_settled_soon_and_then_for_good() -> None:
    assert measuring_seconds(1, TrainingConfig()) == pytest.approx((27, 27))
    assert measuring_seconds(60, TrainingConfig()) == pytest.approx((30, 0.45 * 3600))


@pytest.mark.parametrize(
    "config",
    [
        TrainingConfig(schedule=Cosine()),
        TrainingConfig(schedule=Cooldown(cool_down=0.9)),
        TrainingConfig(ema_share=0.02),
    ],
)
def test_a_length_that_the_first_half_depends_on_is_settled_once(config: TrainingConfig) -> None:
    assert measuring_seconds(60, config) == (30, 30)
    assert settled(planned(10, Pace(16, 100.0, 10.0)), 16, config)


def test_a_length_is_kept_from_just_before_the_rate_falls() -> None:
    plan = plan_images(16_000, 16, "float32", WatchConfig())
    assert not settled(plan, 7_000, TrainingConfig())
    assert settled(plan, 7_600, TrainingConfig())


@pytest.mark.parametrize("schedule", [Cooldown(), Constant(), Cosine()])
@given(st.integers(31, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_the_rate_is_steady_where_a_schedule_says_so(schedule: Schedule, step: int, a: float, b: float) -> None:
    assert schedule(step, a * schedule.steady) == schedule(step, b * schedule.steady)


def test_watching_stays_a_small_share() -> None:
    slow, fast = planned(1, Pace(100, 20.0, 10.0)), planned(1, Pace(100, 2000.0, 10.0))
    assert slow.grids <= fast.grids <= 12
    assert slow.judge <= fast.judge <= 5000


def test_images_are_taken_at_their_word() -> None:
    assert plan_images(1000, 16, "float32", WatchConfig()).images == 992
    assert plan_images(1, 16, "float32", WatchConfig()).images == 16
    assert plan_images(1000, 16, "float32", WatchConfig(grids=3, measures=2, judge=40)).grids == 3


@pytest.mark.parametrize("given_", [{}, {"minutes": 1, "images": 5}, {"minutes": -1}, {"images": 0}])
def test_budgets_that_make_no_sense(given_: dict[str, float]) -> None:
    with pytest.raises(UserError):
        Budget(**given_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Cooldown(cool_down=1.5), "schedule.cool-down is 1.5; give a number from 0 to 1"),
        (lambda: Cosine(warm_up=-1), "schedule.warm-up is -1; give a number at least 0"),
        (lambda: TrainingConfig(ema_share=float("nan")), "training.ema-share is nan; give a number from 0 to 1"),
        (lambda: TrainingConfig(keep=0), "training.keep is 0; give a number from 1 to 10,000"),
    ],
)
def test_settings_out_of_bounds(make: Callable[[], object], line: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
        make()
