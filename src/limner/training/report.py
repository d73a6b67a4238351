"""``report.html``: one self-contained page about a run, a pure function of the run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from limner.files import write_text
from limner.training.curves import Line, Point, chart, smoothed
from limner.training.report_pictures import final, neighbours, over_time, searched
from limner.training.report_run import Run, duration, escaped, mapping, number, read_run
from limner.training.report_tables import cost, measures, settings, use

#: What a curve shows, where its name does not say it.
TITLES: dict[str, str] = {
    "loss": "Loss",
    "x0_error": "Mean squared error of the predicted clean picture",
    "gradient_norm": "Norm of the gradient",
    "lr": "Learning rate",
    "critic/loss": "Loss of the critic",
    "critic/real": "Share of real pictures that the critic takes for real",
    "critic/made": "Share of made pictures that the critic takes for made",
    "critic/penalty": "Penalty on the critic's slopes",
    "critic/augmented": "Likelihood of each augmentation",
    "critic/gradient_norm": "Norm of the critic's gradient",
    "generator/loss": "Loss of the generator",
    "generator/gradient_norm": "Norm of the generator's gradient",
    "images_per_second": "Images a second",
    "skipped_steps": "Steps skipped so far, a loss or gradient not being finite",
    "roll_backs": "Returns to an earlier state so far",
}
#: Memory of the smoothed curve, as a share of the whole: a longer one trails a loss that falls fast.
MEMORY = 0.01


def write_report(folder: Path) -> Path:
    """Write ``folder/report.html`` from what lies in the folder; returns its path.

    Raises:
        UserError: the folder has no readable recipe, or cannot be written.
    """
    run = read_run(folder)
    parts = (final, over_time, measures, _advice, _curves, neighbours, cost, use, settings)
    title = f"{run.recipe.get('recipe', 'run')} on {run.data.get('source', 'pictures')}"
    path = folder / "report.html"
    write_text(path, page(title, _verdict(run), [part(run) for part in parts]))
    return path


def page(title: str, lead: str, sections: Iterable[str]) -> str:
    """A self-contained page: title and lead are plain text, sections HTML, of which empty ones are left out."""
    assets = files("limner.training")
    return Template(assets.joinpath("report_page.html").read_text(encoding="utf-8")).substitute(
        title=escaped(title),
        style=assets.joinpath("report_page.css").read_text(encoding="utf-8"),
        verdict=escaped(lead),
        sections="\n".join(section for section in sections if section),
    )


def _verdict(run: Run) -> str:
    seen = run.done.get("images") or max((record["images"] for record in run.records), default=0)
    said = f"{int(seen):,} images seen"
    if run.seconds:
        said += f" in {duration(sum(run.seconds.values()))}"
    if run.data.get("pictures"):
        said += f", from {int(run.data['pictures']):,} pictures"
    parts = [said if run.done else f"{said}; the run has not ended"]
    distance = _row(run, "fid") or _row(run, "fd")
    if distance:
        real = f" (real held-out pictures score {number(distance['real'], '.3g')})" if _known(distance, "real") else ""
        parts.append(f"{distance['name']} is {number(distance.get('value'), '.3g')}{real}")
    copies = _row(run, "near_copies")
    if copies:
        real = f", as against {copies['real']:.1%} of real held-out pictures" if _known(copies, "real") else ""
        among = searched(run)
        parts.append(
            f"{number(copies.get('value'), '.1%')} of the samples are near copies of training pictures{among}{real}"
        )
    return ". ".join(parts) + "."


def _row(run: Run, start: str) -> Mapping[str, object] | None:
    return next((row for row in run.rows if str(row["name"]).startswith(f"{start}_")), None)


def _known(row: Mapping[str, object], key: str) -> bool:
    return isinstance(row.get(key), (int, float))


def _curves(run: Run) -> str:
    scalars: dict[str, list[Point]] = {}
    measured: dict[str, list[Point]] = {}
    for record in sorted(run.records, key=lambda record: record["images"]):
        at = float(record["images"])
        for name, value in record.items():
            if name not in ("images", "seconds", "measures") and isinstance(value, (int, float)):
                scalars.setdefault(name, []).append((at, float(value)))
        for name, row in mapping(record.get("measures")).items():
            value = mapping(row).get("value")
            if isinstance(value, (int, float)):
                measured.setdefault(name, []).append((at, float(value)))
    real = {str(row["name"]): row.get("real") for row in run.rows}
    figures = [_scalar(name, points) for name, points in scalars.items() if len(points) > 1]
    figures += [_measured(name, points, real.get(name)) for name, points in measured.items() if len(points) > 1]
    drawn = "".join(figures)
    return f'<h2>Curves</h2><div class="grid">{drawn}</div>' if drawn else ""


def _advice(run: Run) -> str:
    """What the run has to say of itself, and what to change."""
    said = "".join(f"<li>{escaped(one)}.</li>" for one in run.done.get("advice") or [])
    return f"<h2>What to change</h2><ul>{said}</ul>" if said else ""


def _scalar(name: str, points: list[Point]) -> str:
    """A curve over images seen; noisy ones smoothed, over the raw values."""
    title = TITLES.get(name, name)
    lines = [Line(name, points)] if name == "lr" else [Line(name, points, "raw"), Line(name, smoothed(points, MEMORY))]
    return figure(chart(title, lines, logarithmic="loss" in name or name == "x0_error"), title)


def _measured(name: str, points: list[Point], real: float | None) -> str:
    caption = name if real is None else f"{name}; dashed: real held-out pictures"
    return figure(chart(name, [Line(name, points)], level=real), caption)


def figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escaped(caption)}</figcaption></figure>" if svg else ""
