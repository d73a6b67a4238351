"""What the clock says of a run's pace, by seconds of the test's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_trainer import Line, trainer

from limner.training.budget import Pace, Plan
from limner.training.clock import Agreed, Clock, Measuring


def never(pace: Pace) -> Plan:
    raise AssertionError("nobody asked for a plan")


def test_the_pace_after_a_return_is_that_of_its_own_seconds() -> None:
    """16 images a second after each first iteration; what is watched is no training, before the return and after."""
    run, seconds = trainer(Line()), 100.0
    measuring = Measuring(5.0, 50.0, seconds, never)
    clock = Clock(run, measuring, [], now=lambda: seconds)

    def iterate(times: int, each: float) -> Agreed:
        nonlocal seconds
        for _ in range(times):
            run.iterate()
            seconds += each
            agreed = clock.ask(None, {})
        return agreed

    def watch(duration: float) -> None:
        nonlocal seconds
        seconds += duration
        clock.watched += duration

    iterate(1, 4.0)
    assert iterate(4, 1.0).settle
    assert clock.pace(measuring, {}) == Pace(80, 16.0, 8.0)
    watch(30.0)
    before = run.progress
    run.progress = replace(before, seen=16, iteration=1)
    clock.went_back(before)
    assert not iterate(1, 4.0).settle, "a first iteration says nothing"
    watch(2.0)
    assert iterate(3, 1.0).settle
    assert clock.pace(measuring, {}) == Pace(80, 16.0, 8.0 + 30 + 4 + 2 + 3)
    assert clock.rate() == pytest.approx((5 + 4) * 16 / (8 + 4 + 3))
