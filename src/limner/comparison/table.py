"""The comparison as a table for a terminal."""

from __future__ import annotations

import io
import shutil
import sys

from limner.comparison.contenders import Cost
from limner.comparison.side_by_side import Line, SideBySide
from limner.metrics.measures import way as way_of

#: Width where nobody looks on: nothing is to be cut off in a file.
_WIDE = 400
BEST = "★"
#: Rows of the cost: what it is called, and how it is written.
COSTS: tuple[tuple[str, str, str], ...] = (
    ("images seen in training", "images", ",.0f"),
    ("minutes of training", "minutes", ",.1f"),
    ("parameters", "parameters", ",.0f"),
    ("evaluations a picture", "evaluations", ",.0f"),
    ("pictures a second, here", "per_second", ",.1f"),
)


def table(result: SideBySide) -> str:
    """Measures with their intervals, then cost; the best of a row is marked where its interval is apart from all."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # what a run is called must not be read as markup

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDE
    text = io.StringIO()
    made = Table(show_header=True, header_style="bold")
    made.add_column("measure", overflow="fold")
    for one in result.contenders:
        made.add_column(Text(one.name), justify="right", overflow="fold")
    made.add_column("real", justify="right")
    made.add_column("better")
    for line in result.lines:
        real = "" if line.real is None else f"{line.real.value:.3g}"
        made.add_row(Text(line.name), *map(Text, _cells(line)), real, way(line))
    made.add_section()
    for name, field, form in COSTS:
        made.add_row(name, *(written(one.cost, field, form) for one in result.contenders), "", "")
    Console(file=text, width=width, color_system=None).print(made)
    return "\n".join(row.rstrip() for row in text.getvalue().splitlines())


def _cells(line: Line) -> list[str]:
    cells = []
    for i, score in enumerate(line.scores):
        if score is None:
            cells.append("–")
        else:
            mark = f" {BEST}" if line.best == i else ""
            cells.append(f"{score.value:.4g} [{score.low:.3g}, {score.high:.3g}]{mark}")
    return cells


def way(line: Line) -> str:
    """Which way is good: "lower" or "higher"."""
    return next(way_of(score.metric) for score in line.scores if score is not None)


def written(cost: Cost, field: str, form: str) -> str:
    """One figure of a cost, or a dash."""
    value = getattr(cost, field)
    return "–" if value is None else format(value, form)
