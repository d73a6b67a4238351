"""Several processes for tests: started as torchrun does it, but without its seconds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code and what it said."""

    code: int
    out: str
    err: str


class Together:
    """Processes that know of each other by their environment, gloo between them, a thread each."""

    def __init__(self, *args: object, size: int = 2, each: dict[int, dict[str, str]] | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"}
        self.processes = [
            subprocess.Popen(
                [sys.executable, *map(str, args)],
                env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), **(each or {}).get(rank, {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(size)
        ]

    def end(self, seconds: float = 120) -> list[Ended]:
        """Wait for all; those that hang are killed, and the test fails."""
        until = time.monotonic() + seconds
        try:
            told = [one.communicate(timeout=max(0.1, until - time.monotonic())) for one in self.processes]
        finally:
            for one in self.processes:
                one.kill()
        return [Ended(one.returncode, out, err) for one, (out, err) in zip(self.processes, told, strict=True)]


def run(*args: object, size: int = 2, seconds: float = 120) -> list[Ended]:
    """Start processes and wait for them; all must end well."""
    ended = Together(*args, size=size).end(seconds)
    assert [one.code for one in ended] == [0] * size, "\n".join(one.err for one in ended)
    return ended
