"""Work in numbered chunks whose results are small files: so it can be shared out, interrupted and taken up again.

Helpers only speed it up. Whatever they leave undone, because they died or met an error, the caller's own process does,
and meets the error itself.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

Result = dict[str, Any]
Work = Callable[[int], Result]
_POLL = 0.02


def run_chunks(
    folder: Path,
    stage: str,
    count: int,
    work: Work,
    *,
    valid: Callable[[int, Result], bool],
    workers: int,
    progress: Callable[[int], None],
) -> list[Result]:
    """The results of ``work(i)`` for i < count, each kept as ``folder/stage-i.json`` as soon as it is there.

    Args:
        folder: where results are kept; those that lie there already and are ``valid`` are not made again.
        stage: the start of their file names.
        count: how many chunks there are.
        work: makes the result of one chunk; what it writes elsewhere must be on disk when it returns.
        valid: whether a result that lies there may be kept.
        workers: how many processes (Linux) or threads (elsewhere) share the work; 1 is this process alone.
        progress: called now and then with the number of chunks done.
    """
    done: dict[int, Result] = {}
    for i in range(count):
        result = _load(folder / f"{stage}-{i}.json")
        if result is not None and valid(i, result):
            done[i] = result
        else:
            (folder / f"{stage}-{i}.json").unlink(missing_ok=True)
    progress(len(done))
    missing = [i for i in range(count) if i not in done]

    def one(i: int) -> None:
        _save(folder / f"{stage}-{i}.json", work(i))

    if min(workers, len(missing)) > 1:
        # Elsewhere forking is unsafe or absent; and a process that is itself a daemon may have no children.
        can_fork = sys.platform.startswith("linux") and not multiprocessing.current_process().daemon
        share = _processes if can_fork else _threads
        share(one, missing, min(workers, len(missing)), lambda: progress(len(done) + _count(folder, stage, missing)))
    for i in missing:
        if not (folder / f"{stage}-{i}.json").exists():
            one(i)
            progress(len(done) + _count(folder, stage, missing))
        result = _load(folder / f"{stage}-{i}.json")
        done[i] = work(i) if result is None else result
    progress(count)
    return [done[i] for i in range(count)]


def _count(folder: Path, stage: str, which: list[int]) -> int:
    return sum((folder / f"{stage}-{i}.json").exists() for i in which)


def _load(path: Path) -> Result | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _save(path: Path, result: Result) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(result), encoding="utf-8")
    temporary.replace(path)


def _processes(one: Callable[[int], None], chunks: list[int], workers: int, tick: Callable[[], None]) -> None:
    context = multiprocessing.get_context("fork")
    parent = os.getpid()
    shares = [chunks[i::workers] for i in range(workers)]
    helpers = [context.Process(target=_help, args=(one, share, parent), daemon=True) for share in shares]
    for helper in helpers:
        helper.start()
    try:
        for helper in helpers:
            while helper.is_alive():
                helper.join(_POLL)
                tick()
    finally:
        for helper in helpers:
            helper.kill()  # not terminate: a helper inherits the parent's own handler of that signal
            helper.join()


def _help(one: Callable[[int], None], chunks: list[int], parent: int) -> None:
    gc.freeze()  # else collections would touch, and so copy, all that the parent holds
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its helpers
    with suppress(Exception):  # the caller meets the same error and reports it
        for i in chunks:
            if os.getppid() != parent:
                break
            one(i)
    os._exit(0)  # nothing that the parent registered to run at exit may run here


def _threads(one: Callable[[int], None], chunks: list[int], workers: int, tick: Callable[[], None]) -> None:
    def quiet(i: int) -> None:
        with suppress(Exception):
            one(i)
        tick()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(quiet, chunks))
