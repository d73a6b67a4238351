from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.training.guiding import best_guidance


def test_what_is_not_clearly_better_changes_nothing() -> None:
    assert best_guidance({1.25: 1.0, 2.0: 0.96, 3.0: 0.97}) == 1.25
    assert best_guidance({1.25: 1.0}) == 1.25
    assert best_guidance({1.25: 1.0, 2.0: 2.0}) == 1.25


def test_the_strongest_is_not_gone_beyond() -> None:
    assert best_guidance({1.25: 1.0, 2.0: 0.5, 3.0: 0.4}) == 3.0
    assert best_guidance({1.25: 1.0, 2.0: 0.5}) == 2.0


@given(st.floats(1.9, 2.4), st.floats(0.1, 10))
def test_the_least_of_a_parabola_is_found(least: float, bend: float) -> None:
    distances = {one: 1 + bend * (one - least) ** 2 for one in (1.25, 2.0, 3.0)}
    if distances[2.0] < 0.95 * distances[1.25]:
        assert best_guidance(distances) == pytest.approx(least, abs=0.006)


def test_a_recipe_with_a_guidance_between_those_that_are_tried() -> None:
    assert best_guidance({2.5: 1.0, 2.0: 0.5, 3.0: 2.0}) == 2.0
    assert 2.5 < best_guidance({2.0: 1.0, 2.5: 0.5, 3.0: 0.6}) < 3.0
