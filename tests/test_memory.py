"""What Linux tells of memory, from a file system that is made up here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limner.memory import free_memory, left_by_system

CPU = torch.device("cpu")


def told(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MACHINE = {"proc__meminfo": "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n"}
GROUP = "sys__fs__cgroup__"
OLD = GROUP + "memory__"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        (MACHINE, 4000 * 1024),
        # The second version: of the group and those around it the narrowest counts, and file pages can be dropped.
        (
            MACHINE
            | {
                "proc__self__cgroup": "0::/a/b\n",
                GROUP + "a__b__memory_dot_max": "max\n",
                GROUP + "a__b__memory_dot_current": "100\n",
                GROUP + "a__memory_dot_max": "1000000\n",
                GROUP + "a__memory_dot_current": "600000\n",
                GROUP + "a__memory_dot_stat": "anon 1\ninactive_file 50000\n",
            },
            450_000,
        ),
        # The first; a container sees its own group as the root.
        (
            MACHINE
            | {
                "proc__self__cgroup": "9:name=systemd:/\n5:cpu,cpuacct:/x\n4:memory:/unseen/here\n0::/\n",
                OLD + "memory_dot_limit_in_bytes": "3000\n",
                OLD + "memory_dot_usage_in_bytes": "1000\n",
                OLD + "memory_dot_stat": "inactive_file 1\ntotal_inactive_file 500\n",
            },
            2500,
        ),
        (
            MACHINE
            | {
                "proc__self__limits": "Limit  Soft Limit  Hard Limit\nMax address space  2048000  unlimited  bytes\n",
                "proc__self__status": "Name:\tpython\nVmSize:\t    1000 kB\n",
            },
            1_024_000,
        ),
        (MACHINE | {"proc__self__limits": "Max address space  unlimited  unlimited  bytes\n"}, 4000 * 1024),
        (
            {
                "proc__self__cgroup": "0::/\n",
                GROUP + "memory_dot_max": "10",
                GROUP + "memory_dot_current": "20",
            },
            0,
        ),
    ],
)
def test_the_least_of_all_bounds_is_free(tmp_path: Path, files: dict[str, str], free: int | None) -> None:
    assert left_by_system(told(tmp_path, **files)) == free


def test_this_machine_has_some() -> None:
    free = free_memory(CPU)
    assert free is None or 0 < free < 2**60
    assert free_memory(torch.device("meta")) is None
