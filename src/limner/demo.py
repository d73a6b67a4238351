"""``limner demo``: the whole way from pictures to a report, on letters that are drawn on the spot."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

from limner.commands import Outcome, train
from limner.data import DataConfig
from limner.recipes import RUNS, flow, numbered, size_for

#: Samples judged at the end: enough that the measures mean something, few enough to be quick.
_JUDGED = 1_000


def demo(minutes: float, out: Path | None, began: float) -> Outcome:
    """Train ``flow`` on ``builtin:glyphs`` for so many minutes, draw, judge, and write the report.

    Args:
        minutes: of training, set-up included.
        out: the run's folder; a fresh ``runs/demo`` by default.
        began: ``time.monotonic()`` at which the clock started.
    """
    settings = flow(size_for(minutes))
    settings = replace(settings, watch=replace(settings.watch, pictures=62, judge=_JUDGED, guidances=()))
    place = out or itertools.chain([RUNS / "demo"], numbered("demo", 2))
    return train(settings, DataConfig("builtin:glyphs"), place, minutes, None, began)
