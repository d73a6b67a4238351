from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from limner import random

#: Random123's known answers for philox4x32-10: counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], result: tuple[int, ...]) -> None:
    words = random.philox(tuple(torch.tensor([c]) for c in counter), key)  # type: ignore[arg-type]
    assert tuple(int(w) for w in words) == result


SAMPLES = st.lists(st.integers(0, 2**62), min_size=1, max_size=9)


@given(SAMPLES, st.integers(0, 2**64 - 1), st.integers(1, 9))
def test_a_sample_does_not_see_its_batch(samples: list[int], seed: int, count: int) -> None:
    together = random.normal(seed, torch.tensor(samples), "a", shape=(count, 2))
    for i, sample in enumerate(samples):
        assert torch.equal(together[i], random.normal(seed, torch.tensor([sample]), "a", shape=(count, 2))[0])


@given(st.integers(0, 2**63), st.sampled_from([1, 2**32, 2**40, 2**63]))
def test_seeds_streams_steps_and_samples_are_apart(seed: int, by: int) -> None:
    samples = torch.tensor([5])
    first = random.normal(seed, samples, "a", shape=(8,))
    others = [
        random.normal(seed + by, samples, "a", shape=(8,)),
        random.normal(seed, samples, "b", shape=(8,)),
        random.normal(seed, samples, "a", 1, shape=(8,)),
        random.normal(seed, samples + (by % 2**62 or 1), "a", shape=(8,)),
    ]
    for other in others:
        assert not bool((first == other).any())


def test_steps_may_differ_by_sample() -> None:
    samples, steps = torch.arange(4), torch.tensor([0, 3, 3, 7])
    drawn = random.normal(1, samples, "a", steps, shape=(3,))
    for i in range(4):
        assert torch.equal(drawn[i : i + 1], random.normal(1, samples[i : i + 1], "a", int(steps[i]), shape=(3,)))


@pytest.mark.parametrize("seed", [0, 1, 2**40, 2**40 + 1, 2**63])
def test_distributions(seed: int) -> None:
    normal = random.normal(seed, torch.arange(2000), "n", shape=(50,)).numpy().ravel()
    uniform = random.uniform(seed, torch.arange(2000), "u", shape=(50,)).numpy().ravel()
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert abs(normal.mean()) < 5 / np.sqrt(normal.size)
    assert abs(normal.var() - 1) < 5 * np.sqrt(2 / normal.size)


def test_streams_of_near_seeds_are_uncorrelated() -> None:
    drawn = torch.stack([random.normal(2**40 + i, torch.arange(100), "n", shape=(100,)).ravel() for i in range(8)])
    correlation = torch.corrcoef(drawn) - torch.eye(8)
    assert float(correlation.abs().max()) < 5 / 100


def test_uniform_never_meets_its_ends() -> None:
    drawn = random.uniform(3, torch.arange(200_000), "u", shape=(4,))
    assert float(drawn.min()) > 0
    assert float(drawn.max()) < 1
    words = torch.tensor([0, 2**32 - 1])  # the extreme words map inside as well
    mapped = ((words >> 9).to(torch.float32) + 0.5) * 2.0**-23
    assert float(mapped[0]) > 0
    assert float(mapped[1]) < 1


@given(st.integers(1, 70))
def test_shapes(count: int) -> None:
    samples = torch.arange(3)
    assert random.bits(0, samples, "a", count=count).shape == (3, count)
    whole = random.bits(0, samples, "a", count=70)
    assert torch.equal(whole[:, :count], random.bits(0, samples, "a", count=count))
    assert random.uniform(0, samples, "a").shape == (3,)
    assert random.normal(0, samples, "a", shape=(count, 2, 1)).shape == (3, count, 2, 1)
