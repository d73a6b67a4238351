"""Several processes and what they say to each other."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from limner import distributed
from limner.distributed import ALONE, Lost, World, in_company, join, out_of_memory
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


Environment = Callable[[dict[str, str]], None]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """Sets what torchrun would, that and no more."""

    def tell(told: dict[str, str]) -> None:
        for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in told.items():
            monkeypatch.setenv(name, value)

    distributed.join.cache_clear()
    yield tell
    distributed.join.cache_clear()


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


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            {"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "29500"},
            "WORLD_SIZE is 2, but MASTER_ADDR is not set; start",
        ),
        (
            {"WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "29500"},
            "WORLD_SIZE is 2, but RANK is not set; start",
        ),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', which is no whole number; start"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is 0; give a number at least 1"),
        ({"WORLD_SIZE": "2", "RANK": "", "MASTER_ADDR": "here", "MASTER_PORT": "1"}, "RANK is '', which is no whole"),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"},
            "RANK is 2; give a number from 0 to 1",
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "here", "MASTER_PORT": "http"},
            "MASTER_PORT is 'http', which",
        ),
    ],
)
def test_half_an_environment_is_one_line(environment: Environment, told: dict[str, str], line: str) -> None:
    environment(told)
    with pytest.raises(UserError, match=f"^{re.escape(line)}"):
        join()


@pytest.mark.parametrize("told", [{}, {"WORLD_SIZE": "1"}, {"MASTER_ADDR": "here", "MASTER_PORT": "29500"}])
def test_a_job_of_one_is_alone(environment: Environment, told: dict[str, str]) -> None:
    environment(told)
    assert join().size == 1


@pytest.mark.parametrize(("told", "device"), [({}, "cuda:0"), ({"WORLD_SIZE": "1", "LOCAL_RANK": "1"}, "cuda:1")])
def test_a_process_alone_takes_a_gpu_where_there_is_one(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, told: dict[str, str], device: str
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    chosen: list[int] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    environment(told)
    assert str(join().device) == device
    assert chosen == [int(device[-1])]


def test_a_lack_of_memory_is_not_another_processs_end() -> None:
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator") as told, in_company():
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(told.value)
    with pytest.raises(torch.OutOfMemoryError), in_company():
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(Lost, match=r"^another process of this run has ended \(Connection closed\); what"), in_company():
        raise RuntimeError("Connection closed\nby pair.cc")
