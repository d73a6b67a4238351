"""Processes for tests, forked from one that has already imported what they need: a start costs a tenth of a second."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from limner.cli import main

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["torch._dynamo", "torch.distributed.fsdp", "limner.cli", "limner.recipes"])


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (minus the signal that killed it) and what it said."""

    code: int
    out: str
    err: str


def limner(*args: object) -> None:
    """The command line."""
    main([*map(str, args)])


def _begin(call: Callable[..., None], args: tuple[object, ...], env: dict[str, str], cwd: str, said: list[str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for descriptor, path in zip((1, 2), said, strict=True):
        file = os.open(path, os.O_WRONLY)
        os.dup2(file, descriptor)
        os.close(file)
    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", torch.get_num_threads())))  # the variable was read before
    signal.signal(signal.SIGINT, signal.default_int_handler)
    call(*args)


class Process:
    """``call(*args)`` in a process of its own.

    Args:
        call: a function of a module; its ``SystemExit`` is the exit code.
        args: whatever pickles.
        env: changes of the environment.
        cwd: where it works; "" is here.
    """

    def __init__(
        self, call: Callable[..., None], *args: object, env: dict[str, str] | None = None, cwd: Path | str = ""
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name, name) for name in ("out", "err")]
        for path in self._said:
            path.touch()
        self._process = _SERVER.Process(
            target=_begin,
            args=(call, args, os.environ | (env or {}), str(cwd or os.getcwd()), [*map(str, self._said)]),
        )
        self._process.start()

    def running(self) -> bool:
        return self._process.is_alive()

    def send(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """With all that it has started, if it has not ended."""
        assert self._process.pid is not None
        for kill in (os.killpg, os.kill):  # in its first moments it has no group yet
            with suppress(ProcessLookupError):
                kill(self._process.pid, signal.SIGKILL)

    def end(self, seconds: float = 120) -> Ended:
        """Wait for it; one that hangs is killed, and the test fails."""
        self._process.join(max(0.1, seconds))
        hangs = self.running()
        if hangs:
            self.kill()
            self._process.join()
        out, err = (path.read_text() for path in self._said)
        assert not hangs, f"it hangs, and had said:\n{out}{err}"
        assert self._process.exitcode is not None
        return Ended(self._process.exitcode, out, err)


class Together:
    """Processes that know of each other by their environment, as torchrun starts them, with a thread each.

    ``each`` holds further changes of the environment, by rank.
    """

    def __init__(
        self,
        call: Callable[..., None],
        *args: object,
        size: int = 2,
        each: dict[int, dict[str, str]] | None = None,
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"}
        own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} | (each or {}).get(rank, {}) for rank in range(size)]
        self.processes = [Process(call, *args, env=shared | one) for one in own]

    def end(self, seconds: float = 120) -> list[Ended]:
        """Wait for all; when one hangs all are killed, and the test fails."""
        until = time.monotonic() + seconds
        while any(one.running() for one in self.processes) and time.monotonic() < until:
            time.sleep(0.01)
        hangs = [one for one in self.processes if one.running()]
        for one in hangs:
            one.kill()
        ended = [one.end() for one in self.processes]
        assert not hangs, "\n".join(one.err for one in ended)
        return ended


def run(call: Callable[..., None], *args: object, size: int = 2, seconds: float = 120) -> list[Ended]:
    """Start processes together and wait for them; all must end well."""
    ended = Together(call, *args, size=size).end(seconds)
    assert [one.code for one in ended] == [0] * size, "\n".join(one.err for one in ended)
    return ended
