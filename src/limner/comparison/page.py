"""The comparison as one self-contained page."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from limner.comparison.contenders import Contender
from limner.comparison.side_by_side import Line, SideBySide
from limner.comparison.strips import pictures
from limner.comparison.table import COSTS, way, written
from limner.errors import UserError
from limner.files import write_text
from limner.metrics import Score
from limner.training.curves import Line as Curve
from limner.training.curves import Point, chart, smoothed
from limner.training.report import MEMORY, TITLES, figure, page
from limner.training.report_run import escaped, mapping, number
from limner.training.report_tables import ARROWS, meaning

PAGE = "compare.html"
#: Colours of curves; a sixth contender has the first one's.
_COLOURS = 5


def free(folder: Path, overwrite: bool) -> Path:
    """Where the page will be.

    Raises:
        UserError: there is one already, and nobody asked to replace it; or none can be written there.
    """
    path = folder / PAGE
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file; give --out a folder")
    if not os.access(there, os.W_OK | os.X_OK) or path.is_dir():
        raise UserError(f"{path} cannot be written; choose another --out")
    if path.exists() and not overwrite:
        raise UserError(f"{path} already exists; choose another --out, or add --overwrite")
    return path


def write_page(result: SideBySide, path: Path) -> None:
    """Write the page; it appears whole."""
    names = [one.name for one in result.contenders]
    drawn = f"Generators drew from the same random numbers (seed {result.seed})."
    lead = (
        f"{len(result.contenders[0].images):,} pictures of each beside {len(result.reference):,} real ones of "
        f"{result.reference.report.source}. {drawn if result.same_numbers else f'Seed {result.seed}.'}"
    )
    sections = (_warned(result), pictures(result), _measures(result), _curves(result.contenders), _costs(result))
    write_text(path, page(f"{', '.join(names[:-1])} and {names[-1]}", lead, sections))


def _warned(result: SideBySide) -> str:
    told = "".join(f'<p class="remark">{escaped(said)}.</p>' for said in result.remarks)
    return f"<h2>Where the measures disagree</h2>{told}" if told else ""


def _measures(result: SideBySide) -> str:
    head = "".join(f'<th scope="col">{escaped(one.name)}</th>' for one in result.contenders)
    lines = "".join(map(_measure, result.lines))
    told = "".join(f'<p class="small">{escaped(note)}.</p>' for note in result.notes)
    return (
        "<h2>Measures</h2><p>With 95 % intervals, which say how a score varies with the samples. A star marks the best "
        "where its interval is apart from all others.</p>"
        f'<div class="scroll"><table><thead><tr><th scope="col">Measure</th>{head}<th scope="col">Real held-out '
        f'pictures</th><th scope="col">Better</th></tr></thead><tbody>{lines}</tbody></table></div>{told}'
    )


def _measure(line: Line) -> str:
    cells = "".join(_cell(score, best=i == line.best) for i, score in enumerate(line.scores))
    receipt = next(str(score.receipt) for score in line.scores if score is not None)
    return (
        f'<tr><th scope="row"><code>{escaped(line.name)}</code><div class="small">{escaped(meaning(line.name))}'
        f"<details><summary>Receipt</summary>{escaped(receipt)}</details></div></th>{cells}"
        f'<td class="n">{number(line.real and line.real.value)}</td><td class="n">{ARROWS[way(line)]}</td></tr>'
    )


def _cell(score: Score | None, *, best: bool) -> str:
    if score is None:
        return '<td class="n">–</td>'
    return (
        f'<td class="n{" best" * best}"><strong>{number(score.value)}</strong>'
        f'<div class="small">{number(score.low)} to {number(score.high)}</div></td>'
    )


def _costs(result: SideBySide) -> str:
    head = "".join(f'<th scope="col">{escaped(one.name)}</th>' for one in result.contenders)
    rows = "".join(
        f'<tr><th scope="row">{escaped(name)}</th>'
        + "".join(f'<td class="n">{written(one.cost, field, form)}</td>' for one in result.contenders)
        + "</tr>"
        for name, field, form in COSTS
    )
    return (
        f'<h2>Cost</h2><div class="scroll"><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _curves(contenders: Sequence[Contender]) -> str:
    """Losses and measures over images seen, a colour a contender."""
    losses: dict[str, dict[int, list[Point]]] = {}
    measured: dict[str, dict[int, list[Point]]] = {}
    for i, one in enumerate(contenders):
        for record in sorted(one.records, key=lambda record: record["images"]):
            at = float(record["images"])
            _add(losses, i, at, ((name, value) for name, value in record.items() if "loss" in name))
            rows = mapping(record.get("measures")).items()
            _add(measured, i, at, ((name, mapping(row).get("value")) for name, row in rows))
    figures = [_chart(TITLES.get(name, name), lines, smooth=True) for name, lines in losses.items()]
    figures += [_chart(name, lines, smooth=False) for name, lines in measured.items()]
    drawn = "".join(figures)
    if not drawn:
        return ""
    keys = "".join(
        f'<li><span class="key s{i % _COLOURS}"></span>{escaped(one.name)}</li>'
        for i, one in enumerate(contenders)
        if one.records
    )
    return (
        "<h2>Curves</h2><p>Over images seen. Losses of different recipes are on scales of their own.</p>"
        f'<ul class="keys small">{keys}</ul><div class="grid">{drawn}</div>'
    )


def _add(curves: dict[str, dict[int, list[Point]]], who: int, at: float, values: Iterable[tuple[str, object]]) -> None:
    for name, value in values:
        if isinstance(value, (int, float)):
            curves.setdefault(name, {}).setdefault(who, []).append((at, float(value)))


def _chart(title: str, lines: dict[int, list[Point]], *, smooth: bool) -> str:
    """Nothing where no contender has more than one point."""
    if all(len(points) < 2 for points in lines.values()):
        return ""
    drawn = [Curve(title, smoothed(p, MEMORY) if smooth else p, f"s{i % _COLOURS}") for i, p in lines.items()]
    return figure(chart(title, drawn, logarithmic=smooth), title)
