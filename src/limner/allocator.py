"""What the C library does with memory that tensors give back."""

from __future__ import annotations

import ctypes
from functools import lru_cache

# Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_INT_MAX = 2**31 - 1
#: What mallinfo2(3) tells, in this order.
_TOLD = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _TOLD]


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Have this process keep the memory that tensors on the CPU give back, instead of returning it to the system.

    glibc maps every larger block anew and unmaps it when it is freed, so that each step of a training pays for
    thousands of page faults, a tenth to a quarter of its time (docs/report-card.md). The process then holds the
    most memory that it ever needed until it ends.

    Returns:
        Whether the C library knows how; musl, macOS and Windows do not, and nothing happens there.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_TRIM_THRESHOLD, _INT_MAX)) and bool(mallopt(_MMAP_MAX, 0))


def freed_memory() -> int:
    """Bytes that were given back and that this process keeps for what comes next; 0 where the C library does not say so
    (glibc does, from 2.33 on)."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, TypeError, AttributeError):
        return 0
    mallinfo2.argtypes, mallinfo2.restype = (), _Info
    return int(mallinfo2().fordblks)
