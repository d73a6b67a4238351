from __future__ import annotations

import subprocess
import sys

import pytest

#: Page faults of making and giving back 64 MiB, of 16,384 pages, ten times.
FAULTS = """
import resource, sys
import torch
from limner.allocator import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("unknown here")
def churn(times):
    for _ in range(times):
        torch.ones(2**24)
churn(20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn(10)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True)
    if "unknown here" in done.stderr:
        pytest.skip("this C library has no mallopt")
    return int(done.stdout)


def test_kept_memory_is_not_faulted_in_again() -> None:
    assert faults("keep") < 1_000
    assert faults("return") > 100_000, "the system keeps it anyway: nothing is gained here any more"


FREED = """
import torch
from limner.allocator import freed_memory, keep_freed_memory
if not keep_freed_memory():
    raise SystemExit("unknown here")
torch.ones(2**24)
first = freed_memory()
held = torch.ones(2**23)  # which fits into what was freed, wherever its edges lie
second = freed_memory()
del held
print(first, second, freed_memory())
"""


def test_kept_memory_is_known_to_be_free() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True)
    if "unknown here" in done.stderr:
        pytest.skip("this C library has no mallopt")
    before, meanwhile, after = map(int, done.stdout.split())
    if not before:
        pytest.skip("this C library has no mallinfo2")
    assert min(before, after) >= 2**26
    assert before - meanwhile >= 0.99 * 2**25
