"""``report.html``: one self-contained page about a run, a pure function of the run's folder."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from limner.config import read_json
from limner.errors import UserError
from limner.files import write_text
from limner.training.curves import Line, Point, chart, smoothed
from limner.training.grids import grid
from limner.training.tracking import METRICS, records

#: Most points in time whose samples are embedded.
_STEPS = 16
#: Pictures up to this side are shown with their pixels sharp.
_SMALL = 96

MEANINGS: dict[str, str] = {
    "fd": "Distance between the statistics of samples and of real pictures.",
    "kid": "The same by a kernel; unbiased for few samples, may fall below zero.",
    "precision": "Share of samples that look like real pictures.",
    "recall": "Share of real pictures that the generator could have drawn.",
    "density": "How many real pictures each sample lies among; above 1 where it keeps to the most typical.",
    "coverage": "Share of real pictures with a sample nearby.",
    "near_copies": "Share of samples that repeat a training picture.",
}


@dataclass(frozen=True)
class _Run:
    """What was found in the folder; everything but the recipe may be missing."""

    folder: Path
    recipe: dict[str, Any]
    done: dict[str, Any]
    rows: list[dict[str, Any]]
    records: list[dict[str, Any]]


def write_report(folder: Path) -> Path:
    """Write ``folder/report.html`` from what lies in the folder; returns its path.

    Raises:
        UserError: the folder has no readable recipe, or cannot be written.
    """
    run = _Run(
        folder,
        read_json(folder / "recipe.json"),
        _optional(folder / "done.json"),
        list(_optional(folder / "measures.json").get("rows", [])),
        records(folder / METRICS),
    )
    sections = [
        _final(run),
        _over_time(run),
        _measures(run),
        _curves(run),
        _neighbours(run),
        _cost(run),
        _use(run),
        _settings(run),
    ]
    assets = files("limner.training")
    page = Template(assets.joinpath("report_page.html").read_text(encoding="utf-8")).substitute(
        title=_text(f"{run.recipe.get('recipe', 'run')} on {run.recipe.get('data', {}).get('source', 'pictures')}"),
        style=assets.joinpath("report_page.css").read_text(encoding="utf-8"),
        verdict=_text(_verdict(run)),
        sections="\n".join(part for part in sections if part),
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def _optional(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except UserError:  # missing or cut off: the page does without
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    return html.escape(str(value))


def _verdict(run: _Run) -> str:
    data = run.recipe.get("data", {})
    seen = run.done.get("images") or (run.records[-1]["images"] if run.records else 0)
    parts = [f"{int(seen):,} images seen"]
    if run.done.get("seconds"):
        parts[0] += f" in {_duration(sum(run.done['seconds'].values()))}"
    if data.get("pictures"):
        parts[0] += f", from {int(data['pictures']):,} pictures"
    first = next((row for row in run.rows if row["name"].startswith("fd_")), None)
    if first:
        real = "" if first.get("real") is None else f" (real held-out pictures score {first['real']:.3g})"
        parts.append(f"{first['name']} is {first['value']:.3g}{real}")
    copies = next((row for row in run.rows if row["name"].startswith("near_copies")), None)
    if copies:
        real = "" if copies.get("real") is None else f", as against {copies['real']:.1%} of real held-out pictures"
        parts.append(f"{copies['value']:.1%} of the samples are near copies of training pictures{real}")
    return ". ".join(parts) + "."


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _embedded(path: Path, alt: str, *, sharp: bool) -> str:
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    kind = ' class="pixels"' if sharp else ""
    return f'<img{kind} alt="{_text(alt)}" src="data:image/png;base64,{content}">'


def _sharp(run: _Run) -> bool:
    return max(map(int, run.recipe.get("data", {}).get("size") or [0])) <= _SMALL


def _final(run: _Run) -> str:
    path = run.folder / "samples" / "final.png"
    if not path.exists():
        return ""
    labels = run.recipe.get("data", {}).get("labels") or []
    note = "The classes in turn." if labels else "Drawn from consecutive numbers, none left out."
    image = _embedded(path, "samples of the finished model", sharp=_sharp(run))
    return f'<figure class="hero">{image}<figcaption>Samples of the finished model. {note}</figcaption></figure>'


def _over_time(run: _Run) -> str:
    folder = run.folder / "samples"
    steps = sorted(path for path in folder.glob("*.png") if path.stem.isdigit()) if folder.is_dir() else []
    if len(steps) > _STEPS:
        steps = [steps[round(i * (len(steps) - 1) / (_STEPS - 1))] for i in range(_STEPS)]
    shown = [(f"{int(path.stem):,} images", path, folder / f"{path.stem}_raw.png") for path in steps]
    if (folder / "final.png").exists():
        shown.append(("the end", folder / "final.png", folder / "final_raw.png"))
    if not shown:
        return ""
    blocks = []
    for when, path, raw in shown:
        pair = [(path, "averaged weights")] + ([(raw, "raw weights")] if raw.exists() else [])
        pictures = "".join(
            f"<figure>{_embedded(one, f'samples after {when}, {what}', sharp=_sharp(run))}"
            f"<figcaption>{_text(when)}, {what}</figcaption></figure>"
            for one, what in pair
        )
        blocks.append(f'<div class="step"><div class="pair">{pictures}</div></div>')
    last = len(shown) - 1
    slider = f'<input hidden type="range" min="0" max="{last}" value="{last}" aria-label="point in time">'
    return f"<h2>Samples over time</h2><div data-steps>{slider}{''.join(blocks)}</div>"


def _measures(run: _Run) -> str:
    if not run.rows:
        return ""
    lines = []
    for row in run.rows:
        meaning = next((text for name, text in MEANINGS.items() if row["name"].startswith(f"{name}_")), "")
        arrow = {"lower": "↓ lower", "higher": "↑ higher"}.get(str(row.get("better")), "")
        real = "–" if row.get("real") is None else f"{row['real']:.4g}"
        lines.append(
            f'<tr><th scope="row"><code>{_text(row["name"])}</code><br><span class="small">{_text(meaning)}</span></th>'
            f'<td class="n"><strong>{row["value"]:.4g}</strong><br>'
            f'<span class="small">{row["low"]:.4g} to {row["high"]:.4g}</span></td><td class="n">{real}</td>'
            f'<td class="n">{arrow}</td><td><details><summary>receipt</summary>{_text(row.get("receipt", ""))}'
            "</details></td></tr>"
        )
    notes = _optional(run.folder / "measures.json").get("notes", [])
    told = "".join(f'<p class="small">{_text(note)}.</p>' for note in notes)
    return (
        '<h2>Measures</h2><div class="scroll"><table><thead><tr><th scope="col">measure</th>'
        '<th scope="col">samples, 95 % interval</th><th scope="col">real held-out pictures</th>'
        '<th scope="col">better</th><th scope="col"></th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{told}"
    )


def _curves(run: _Run) -> str:
    series: dict[str, list[Point]] = {}
    measured: dict[str, list[Point]] = {}
    for record in run.records:
        at = float(record["images"])
        for name, value in record.items():
            if name not in ("images", "seconds", "measures") and isinstance(value, (int, float)):
                series.setdefault(name, []).append((at, float(value)))
        for name, row in _mapping(record.get("measures")).items():
            if isinstance(row, Mapping) and isinstance(row.get("value"), (int, float)):
                measured.setdefault(str(name), []).append((at, float(row["value"])))
    drawn = []
    for name, points in series.items():
        if len(points) < 2:
            continue
        smooth = name not in ("lr",)
        lines = [Line(name, points, "raw"), Line(name, smoothed(points))] if smooth else [Line(name, points)]
        drawn.append((name, chart(name, lines, logarithmic="loss" in name or name == "x0_error")))
    real = {row["name"]: row.get("real") for row in run.rows}
    drawn += [(name, chart(name, [Line(name, p)], level=real.get(name))) for name, p in measured.items() if len(p) > 1]
    figures = [f"<figure>{svg}<figcaption>{_text(name)}</figcaption></figure>" for name, svg in drawn if svg]
    return f'<h2>Curves</h2><div class="grid">{"".join(figures)}</div>' if figures else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _neighbours(run: _Run) -> str:
    found = _arrays(run.folder / "neighbours.npz", ("samples", "nearest", "distance", "near"))
    if found is None:
        return ""
    blocks = []
    for sample, nearest, distance, near in zip(
        *(found[k] for k in ("samples", "nearest", "distance", "near")), strict=True
    ):
        pictures = _png(sample, "sample") + "".join(_png(one, "training picture") for one in nearest)
        told = f"distance {distance[0]:.2f}" + (": a near copy" if near else "")
        blocks.append(
            f'<figure class="{"near" if near else "apart"}"><div class="row pixels">{pictures}</div>'
            f"<figcaption>{told}</figcaption></figure>"
        )
    return (
        "<h2>Is it new?</h2><p>Each sample, framed, beside the training pictures nearest to it in pixels.</p>"
        f'<div class="neighbours">{"".join(blocks)}</div>'
    )


def _arrays(path: Path, names: Iterable[str]) -> dict[str, npt.NDArray[Any]] | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # missing or cut off: the page does without
        return None


def _png(image: npt.NDArray[np.uint8], alt: str) -> str:
    file = io.BytesIO()
    grid(image[None], scale=1, gap=0).save(file, "PNG")
    return f'<img alt="{alt}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode("ascii")}">'


def _cost(run: _Run) -> str:
    seconds = run.done.get("seconds")
    if not seconds:
        return ""
    total = sum(seconds.values()) or 1.0
    bar = "".join(
        f'<span class="c{i % 5}" style="width:{100 * s / total:.2f}%"></span>' for i, s in enumerate(seconds.values())
    )
    keys = " ".join(
        f'<span><span class="key c{i % 5}"></span>{_text(name)} {_duration(s)}</span>&ensp;'
        for i, (name, s) in enumerate(seconds.items())
    )
    facts = {
        "images a second": f"{run.done['images'] / max(seconds.get('training', total), 1e-9):,.0f}",
        "parameters": f"{run.done.get('parameters', 0):,}",
        "floating-point operations a training image": f"{run.done.get('flops_per_image', 0) / 1e6:,.0f} M",
        "memory at most": f"{run.done.get('peak_memory_bytes', 0) / 2**20:,.0f} MiB",
        "interruptions": str(run.done.get("interrupted", 0)),
    }
    rows = "".join(f'<tr><th scope="row">{_text(k)}</th><td class="n">{_text(v)}</td></tr>' for k, v in facts.items())
    return f'<h2>Cost</h2><div class="stack">{bar}</div><p class="small">{keys}</p><table>{rows}</table>'


def _use(run: _Run) -> str:
    where = _text(run.folder)
    return (
        f"<h2>Use it</h2><pre>limner sample {where} -n 64 --out grid.png\n"
        f"limner evaluate {where} --reference {_text(run.recipe.get('data', {}).get('source', 'SOURCE'))}</pre>"
        f'<pre>import limner\n\nmodel = limner.load("{where}")\npictures = limner.sample(model, 16, seed=0)</pre>'
    )


def _settings(run: _Run) -> str:
    parts = [("Data", run.recipe.get("data")), ("Recipe", run.recipe.get("config")), ("Plan", run.recipe.get("plan")),
             ("Environment", run.recipe.get("environment"))]  # fmt: skip
    blocks = [
        f"<details><summary>{name}</summary>{_table(value)}</details>"
        for name, value in parts
        if isinstance(value, dict)
    ]
    return f"<h2>Settings</h2>{''.join(blocks)}"


def _table(values: Mapping[str, Any]) -> str:
    rows = []
    for name, value in values.items():
        shown = _table(value) if isinstance(value, Mapping) else _text(_plain(value))
        rows.append(f'<tr><th scope="row">{_text(name)}</th><td>{shown}</td></tr>')
    return f"<table>{''.join(rows)}</table>"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
