from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
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


@settings(deadline=None)
@given(SAMPLES, st.integers(0, 2**64 - 1), st.integers(1, 9))
def test_a_sample_does_not_see_its_batch(samples: list[int], seed: int, count: int) -> None:
    together = random.normal(seed, torch.tensor(samples), "a", shape=(count, 2))
    for i, sample in enumerate(samples):
        assert torch.equal(together[i], random.normal(seed, torch.tensor([sample]), "a", shape=(count, 2))[0])


@settings(deadline=None)
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
    """These samples' words begin with 23 ones and with 23 zeros (found by search)."""
    drawn = random.uniform(0, torch.tensor([3_896_060, 6_018_502]), "ends")
    assert drawn.tolist() == [1 - 2.0**-24, 2.0**-24]


def test_normal_is_finite_where_its_word_rounds_up_to_one() -> None:
    """This sample's word is so near 2**32 that float32 rounds it up (found by search): the logarithm is 0, not NaN."""
    assert random.normal(0, torch.tensor([40_033_564]), "ends", shape=(2,)).abs().tolist() == [[0.0, 0.0]]


def test_pictures_are_the_same_bits_in_any_batch_on_any_number_of_threads() -> None:
    """Large enough for torch to split the work and for vectorised loops to have a rest."""
    samples, shape = torch.arange(2**40, 2**40 + 35), (3, 33, 31)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = random.normal(2**41, samples, "init", shape=shape)
        torch.set_num_threads(2)
        for batch in (1, 7, 34):
            parts = [random.normal(2**41, part, "init", shape=shape) for part in samples.split(batch)]
            assert torch.equal(torch.cat(parts), whole)
    finally:
        torch.set_num_threads(threads)


def test_only_the_low_64_bits_of_a_seed_count() -> None:
    samples = torch.arange(3)
    assert torch.equal(random.bits(-1, samples, "a"), random.bits(2**64 - 1, samples, "a"))
    assert torch.equal(random.bits(5, samples, "a"), random.bits(2**64 + 5, samples, "a"))


def test_no_samples_is_no_noise() -> None:
    none = torch.empty(0, dtype=torch.int64)
    assert random.normal(0, none, "a", shape=(3, 2)).shape == (0, 3, 2)
    assert random.uniform(0, none, "a").shape == (0,)


@settings(deadline=None)
@given(st.integers(1, 70))
def test_shapes(count: int) -> None:
    samples = torch.arange(3)
    assert random.bits(0, samples, "a", count=count).shape == (3, count)
    whole = random.bits(0, samples, "a", count=70)
    assert torch.equal(whole[:, :count], random.bits(0, samples, "a", count=count))
    assert random.uniform(0, samples, "a").shape == (3,)
    assert random.normal(0, samples, "a", shape=(count, 2, 1)).shape == (3, count, 2, 1)


def keyed(seed: int, stream: str = "dropout", step: int = 0) -> torch.Tensor:
    with random.scoped(seed, stream, step):
        return torch.rand(8)


def test_scoped_numbers_are_keyed_and_leave_no_trace() -> None:
    before = torch.get_rng_state()
    first = keyed(7)
    with pytest.raises(RuntimeError, match="shape"), random.scoped(7, "dropout"):
        torch.rand(3).reshape(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(keyed(7), first)
    # torch's own generator keeps 32 bits of its seed; what keys it must not lose the others.
    for other in (keyed(8), keyed(7 + 2**32), keyed(7 + 2**40), keyed(7, "weights"), keyed(7, step=1)):
        assert not bool((other == first).any())


def test_rewound_numbers_come_again() -> None:
    with random.scoped(7, "dropout"):
        with random.rewound():
            first = torch.rand(8)
        assert torch.equal(torch.rand(8), first)
