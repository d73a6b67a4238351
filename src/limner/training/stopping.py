"""Signals that ask a run to stop, and how it tells that it did."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any


class Interrupted(Exception):  # noqa: N818 - not an error
    """A signal asked the run to stop; its state is saved, but for the first second.

    Args:
        folder: of the run.
        saved: images after which it is saved; 0 if it is not.
        number: the signal's.
        trained: whether the training had ended, and samples were drawn and judged.
    """

    def __init__(self, folder: Path, saved: int, number: int, *, trained: bool = False) -> None:
        stands = f"saved after {saved:,} images" if saved else "stopped before there was anything to save"
        if trained:
            stands = f"trained to the end, with a snapshot in {folder}, but not judged"
        super().__init__(f"{stands}; go on with: limner train --resume {folder}")
        self.number = number


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that the first SIGINT or SIGTERM fills; a second one stops at once."""
    caught: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for one, handler in before.items():
            signal.signal(one, handler)

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        restore()

    try:
        for one in (signal.SIGINT, signal.SIGTERM):
            before[one] = signal.signal(one, note)
    except ValueError:  # not in the main thread: signals are somebody else's
        before.clear()
    try:
        yield caught
    finally:
        restore()
