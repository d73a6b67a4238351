"""Several processes and what they say to each other."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch

from limner import distributed
from limner.distributed import ALONE, World, join
from limner.errors import UserError
from processes import Together, run
from speaking import speak


def test_three_processes() -> None:
    run(speak, "sums", "shares", "leading", "gradients", size=3)


def test_the_first_may_take_its_time() -> None:
    run(speak, "patient")


@pytest.mark.parametrize("where", ["sum", "lead"])
def test_one_failure_ends_all_and_is_told_once(where: str) -> None:
    """Within the two minutes that processes get here, not the ten that the first would have worked for."""
    ended = Together(speak, "broken", size=3, each={rank: {"WHERE": where} for rank in range(3)}).end()
    assert [one.code for one in ended] == [2, 2, 2], [one.err for one in ended]
    said = [one.out.strip() for one in ended if one.out]  # one that is ended while it waits says nothing
    assert said.count("told") == 1
    assert set(said) <= {"told", "silent"}


#: A process that ends while eight threads look, without a pause, whether another has failed.
LEAVING = """
import time
from torch.distributed import TCPStore
from limner import distributed
distributed._NAP = 0.0
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
for _ in range(8):
    distributed.watch(store)
time.sleep(0.1)
"""


def test_a_process_ends_well_while_it_watches_the_others() -> None:
    """A thread left in the store's C++ when the interpreter goes down would abort it."""
    done = subprocess.run([sys.executable, "-c", LEAVING], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_alone_there_is_nothing_to_say() -> None:
    assert ALONE.first
    assert ALONE.share(5) == (0, 5)
    assert ALONE.most(3, -1) == (3, -1)
    assert ALONE.lead(lambda: "x") == "x"
    assert ALONE.failing()
    values = torch.ones(2)
    assert ALONE.add_up(values) is values
    ALONE.leave()


def test_shares_cover_everything_once() -> None:
    for size in (1, 2, 3, 8):
        for count in (0, 1, 7, 8, 64):
            edges = [World(rank, size).share(count) for rank in range(size)]
            assert edges[0][0] == 0
            assert edges[-1][1] == count
            assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))


def test_half_an_environment_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    distributed.join.cache_clear()
    try:
        with pytest.raises(UserError, match="start processes with torchrun"):
            join()
    finally:
        distributed.join.cache_clear()
