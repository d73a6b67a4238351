"""Curves as small inline SVG drawings that take their colours from the page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
_WIDTH, _HEIGHT = 560, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 30
#: Smaller values have differences that no float holds exactly.
_TINIEST = 1e-280
#: Most points that a curve is drawn with.
_POINTS = 600


@dataclass(frozen=True)
class Line:
    """One curve: ``points`` are (images, value), ``style`` a class of the page's stylesheet."""

    name: str
    points: Sequence[Point]
    style: str = "line"


def chart(title: str, lines: Sequence[Line], *, logarithmic: bool = False, level: float | None = None) -> str:
    """An SVG of curves over images seen.

    Args:
        title: also the drawing's description.
        lines: values that are not finite are left out.
        logarithmic: the value axis, where all values are above zero.
        level: a value to mark across, such as what real pictures score.
    """
    kept = [Line(line.name, _thinned(_finite(line.points)), line.style) for line in lines]
    values = [value for line in kept for _, value in line.points] + ([] if level is None else [level])
    last = max((at for line in kept for at, _ in line.points), default=0.0)
    if not values or last <= 0:
        return ""
    log = logarithmic and min(values) > 0
    ticks = _log_ticks(min(values), max(values)) if log else _ticks(min(values), max(values))
    low, high = _scaled(ticks[0], log), _scaled(ticks[-1], log)

    def place(at: float, value: float) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * at / last
        y = _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (_scaled(value, log) - low) / ((high - low) or 1))
        return round(x, 1), round(y, 1)

    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">',
        f"<title>{html.escape(title)}</title>",
    ]
    for tick in ticks:
        _, y = place(0, tick)
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{_number(tick)}</text>')
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x, _ = place(last * share, ticks[0])
        where = f'x="{x}" y="{_HEIGHT - 8}" text-anchor="{anchor}"'
        parts.append(f'<text class="tick" {where}>{_number(last * share)}{" images" if share == 1 else ""}</text>')
    if level is not None:
        _, y = place(0, level)
        parts.append(f'<line class="level" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
    for line in kept:
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line.points))
        parts.append(f'<polyline class="{html.escape(line.style)}" points="{path}"/>')
        if len(line.points) <= 24:
            dot = f'<circle class="dot {html.escape(line.style)}"'
            parts += [f'{dot} cx="{x}" cy="{y}" r="3"/>' for x, y in (place(*p) for p in line.points)]
    return "".join([*parts, "</svg>"])


def smoothed(points: Sequence[Point], share: float = 0.03) -> list[Point]:
    """An exponential mean whose memory is a share of the curve, corrected for its start."""
    keep = math.exp(-1 / max(1.0, share * len(points)))
    out, mean, weight = [], 0.0, 0.0
    for at, value in points:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        out.append((at, mean / weight))
    return out


def _finite(points: Sequence[Point]) -> list[Point]:
    """What can be drawn; what is too small to be divided is zero."""
    return [(at, value if abs(value) > _TINIEST else 0.0) for at, value in points if math.isfinite(value)]


def _thinned(points: list[Point]) -> list[Point]:
    every = math.ceil(len(points) / _POINTS) if points else 1
    return points[::every] + ([points[-1]] if points and (len(points) - 1) % every else [])


def _scaled(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def _ticks(low: float, high: float) -> list[float]:
    """About four round numbers that enclose the values."""
    if high <= low:
        high, low = low + (abs(low) or 1) / 2, low - (abs(low) or 1) / 2
    rough = (high - low) / 4
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough) * magnitude
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [step * i for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 of every decade, or decades alone where there are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    marks = (1,) if last - first > 3 else (1, 2, 5)
    all_marks = [m * 10.0**d for d in range(first, last + 1) for m in marks]
    start = max((i for i, v in enumerate(all_marks) if v <= low), default=0)
    end = min((i for i, v in enumerate(all_marks) if v >= high), default=len(all_marks) - 1)
    return all_marks[start : max(end, start + 1) + 1]


def _number(value: float) -> str:
    if value == 0:
        return "0"
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"
