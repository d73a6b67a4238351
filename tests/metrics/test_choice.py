"""Of which classes samples are drawn: in the reference's proportions, evenly from the first sample on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.data import Dataset, open_dataset
from limner.metrics.choice import in_proportion
from limner.metrics.classes import class_numbers, knows


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9).filter(any), st.integers(0, 200))
def test_classes_are_as_frequent_as_their_weights_at_any_time(weights: list[int], n: int) -> None:
    numbers = in_proportion(weights, n)
    assert len(numbers) == n
    for stop in range(1, n + 1) if n >= len(weights) else [n]:
        wanted = stop * np.array(weights) / sum(weights)
        taken = np.bincount(numbers[:stop], minlength=len(weights))
        assert (np.abs(taken - wanted) < 2).all()
        assert (taken[wanted == 0] == 0).all()


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 100))
def test_equal_weights_are_taken_in_turn(classes: int, weight: int, more: int) -> None:
    assert in_proportion([weight] * classes, classes + more) == [i % classes for i in range(classes + more)]


def test_uneven_weights_hold_exactly_and_come_mixed() -> None:
    numbers = in_proportion([90, 10], 2000)
    assert numbers.count(1) == 200
    assert all(numbers[start : start + 20].count(1) == 2 for start in range(0, 2000, 20))


def test_fewer_samples_than_classes_are_spread_over_all_of_them() -> None:
    assert in_proportion([1] * 1000, 10) == list(range(50, 1000, 100))
    assert in_proportion([5] * 1000, 1) == [500]
    many = in_proportion([9] * 100 + [1] * 900, 200)  # half of all pictures are of the first 100 classes
    assert sum(number < 100 for number in many) == 100
    assert len(set(many)) == 200


def _labelled(folder: Path, label: list[int]) -> Dataset:
    np.savez(folder / "set.npz", images=np.zeros((len(label), 4, 4, 1), np.uint8), labels=np.array(label))
    return open_dataset(str(folder / "set.npz"), progress=False)


def test_classes_go_by_name_and_by_the_reference_where_it_knows_them(tmp_path: Path) -> None:
    reference = _labelled(tmp_path, [0] * 6 + [1] * 3 + [2] * 3)
    assert [class_numbers(("2", "0"), reference, 30).count(k) for k in (0, 1)] == [10, 20]
    assert knows(reference, ("2", "0"))
    assert not knows(reference, ("2", "other"))
    assert class_numbers(("2", "other"), reference, 4) == [0, 1, 0, 1]


@pytest.mark.parametrize("classes", [("a",), ("a", "b", "c")])
def test_a_reference_without_classes_leaves_them_in_turn(tmp_path: Path, classes: tuple[str, ...]) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((9, 4, 4, 1), np.uint8))
    reference = open_dataset(str(tmp_path / "set.npz"), progress=False)
    assert class_numbers(classes, reference, 5) == [i % len(classes) for i in range(5)]
