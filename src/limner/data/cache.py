"""Where decoded pictures lie: one folder a key, made once, whole or not there at all."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from limner.data.build import META, VERSION, Meta, build
from limner.data.config import DataConfig
from limner.data.resolve import Resolved
from limner.data.survey import Progress
from limner.downloads import cache_root as cache_root
from limner.errors import UserError

_APART = frozenset(("source", "stream"))  # settings that what is decoded does not depend on
_LATER = frozenset(("bits", "window", "buckets"))


def place(config: DataConfig, resolved: Resolved, root: Path) -> Path:
    """The folder that a source's decoded pictures have or would have."""
    settings = {key: value for key, value in asdict(config).items() if not (key in _APART or _as_ever(key, value))}
    key = hashlib.sha256(json.dumps([VERSION, settings, resolved.key]).encode()).hexdigest()[:32]
    return root / "datasets" / key


def cached(config: DataConfig, resolved: Resolved, root: Path, progress: bool) -> Path:
    """The folder of the decoded pictures, decoding them if no one has yet.

    Processes that ask for the same one at the same time wait for the first; its lock ends with it, however it ends,
    and what it had decoded is gone on with. A full disk is a UserError that names the folder.
    """
    folder = place(config, resolved, root)
    if is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock"), progress) as alone:
            if not is_whole(folder):
                _make(
                    config, resolved, folder, folder.with_suffix(".partial" if alone else f".{os.getpid()}"), progress
                )
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write the data cache in '{folder}': {reason}; make room, or set LIMNER_CACHE"
        ) from error
    return folder


def _as_ever(name: str, value: object) -> bool:
    """Whether a setting came later, and is at what it was before it came: what had been decoded by then is good."""
    return name in _LATER and value == DataConfig.__dataclass_fields__[name].default


def is_whole(folder: Path) -> bool:
    try:
        meta = Meta.read(folder / META)
        size = (folder / meta.images).stat().st_size
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return meta.version == VERSION and size == math.prod(meta.shape) * meta.bits // 8


def _make(config: DataConfig, resolved: Resolved, folder: Path, partial: Path, progress: bool) -> None:
    partial.mkdir(exist_ok=True)
    try:
        with _no_collection():
            source = resolved.load()
        with bar(progress, resolved.name) as show:
            build(source, config, partial, show)
    except UserError:
        shutil.rmtree(partial, ignore_errors=True)  # what is wrong with the source changes its key when it is put right
        raise
    if folder.exists() and not is_whole(folder):
        shutil.rmtree(folder)
    put_in_place(partial, folder)


def put_in_place(partial: Path, folder: Path) -> None:
    """A whole folder under its name. Without a lock, another process may have been first; its folder is as good."""
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _no_collection() -> Iterator[None]:
    """A listing makes many small objects and no garbage; looking for it would take a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def locked(path: Path, progress: bool) -> Iterator[bool]:
    """Hold an advisory lock; yields False where the system has none, so that the caller works apart."""
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with path.open("a") as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if progress:
                    print("another process is reading the same pictures; waiting for it", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # some network file systems cannot lock
            yield False
            return
        yield True


@contextmanager
def bar(progress: bool, name: str) -> Iterator[Progress]:
    """A progress bar on a terminal; it is drawn by the caller's own thread, so that helpers may be forked beside it."""
    if not (progress and sys.stderr.isatty()):
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
    tasks: dict[str, Callable[[int], None]] = {}
    with bar:

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                task = bar.add_task(f"{stage} {name}", total=total)
                tasks[stage] = lambda done: bar.update(task, completed=done)
            tasks[stage](done)
            bar.refresh()

        yield show
