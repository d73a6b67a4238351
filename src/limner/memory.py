"""How much memory is free for tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from limner.allocator import freed_memory

#: Of each version of control groups: the limit, what is in use, and of its ``memory.stat`` what can be dropped at once.
_GROUPS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_memory(device: torch.device) -> int | None:
    """Bytes that tensors may still take on a device, what they have given back to this process included; None where
    that cannot be told."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    left = left_by_system()
    return None if left is None else left + freed_memory()


def left_by_system(system: Path = Path("/")) -> int | None:
    """Bytes that Linux still has for this process: of the machine, of the control groups that it runs in and of its own
    limit, whichever is least; None where nobody tells.

    Args:
        system: the root of the file system in which it is told.
    """
    known = [*_of_machine(system), *_of_groups(system), *_of_process(system)]
    return max(0, min(known)) if known else None


def _of_machine(system: Path) -> Iterator[int]:
    kilobytes = _table(system / "proc/meminfo").get("MemAvailable:")
    if kilobytes is not None:
        yield kilobytes * 1024


def _of_groups(system: Path) -> Iterator[int]:
    """Of the groups of this process and all groups around these, as far as they can be seen from here."""
    for line in _text(system / "proc/self/cgroup").splitlines():
        _, controllers, inside = line.split(":", 2)
        kind = next((kind for kind in _GROUPS if kind in controllers.split(",")), None)
        if kind is None:
            continue
        most, used, spare = _GROUPS[kind]
        mounted = system / "sys/fs/cgroup" / kind
        group = mounted / inside.lstrip("/")
        for folder in (group, *group.parents):
            limit, taken = (_text(folder / name).strip() for name in (most, used))
            if limit.isdecimal() and taken.isdecimal():
                yield int(limit) - int(taken) + _table(folder / "memory.stat").get(spare, 0)
            if folder == mounted:
                break


def _of_process(system: Path) -> Iterator[int]:
    """Of the addresses that ``ulimit -v`` grants."""
    for line in _text(system / "proc/self/limits").splitlines():
        if line.startswith("Max address space"):
            limit, held = line.split()[3], _table(system / "proc/self/status").get("VmSize:")
            if limit.isdecimal() and held is not None:
                yield int(limit) - held * 1024


def _table(path: Path) -> dict[str, int]:
    """Numbers by name, of lines that begin with both."""
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
