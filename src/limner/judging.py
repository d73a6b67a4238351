"""The commands that judge: ``evaluate`` and ``compare``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from limner.commands import Outcome, class_names, measure_lines
from limner.comparison import JUDGED, free, table, write_page
from limner.comparison import compare as side_by_side
from limner.contracts import Mode
from limner.data import DataConfig, Dataset, open_dataset
from limner.downloads import cache_root
from limner.errors import UserError
from limner.features import load_extractor
from limner.metrics import ClassReport, Row, check_metrics, per_class
from limner.metrics import evaluate as judge
from limner.metrics.choice import choose
from limner.sampling import sample as draw
from limner.training.snapshot import is_model, load


def evaluate(
    images: str,
    reference: DataConfig,
    metrics: tuple[str, ...],
    extractor: str,
    n: int | None,
    seed: int,
    baseline: bool,
    classes: bool,
) -> Outcome:
    """Judge a model's samples, or a set of pictures, against real ones."""
    if not reference.source:
        raise UserError("give the real pictures with --reference: a folder, a .zip, 'mnist', 'builtin:glyphs' …")
    check_metrics(metrics)
    real = open_dataset(reference)
    height, width, channels = real.images.shape[1:]
    seen_by = load_extractor(extractor, shape=(height, width, channels))
    check_metrics(metrics, seen_by)  # before minutes of drawing
    if classes and not real.labels:
        raise UserError(f"{reference.source} has no classes to measure within; leave --per-class out")
    labels: Sequence[str]
    if is_model(images):
        model = load(images)
        if classes and not model.labels:
            raise UserError(f"{images} was trained without classes; leave --per-class out")
        pictures = draw(model, n or JUDGED, seed=seed)
        labels = class_names(model, len(pictures), None)
    else:
        given = open_dataset(
            dataclasses.replace(reference, source=images, size=real.spec.size, mode=cast(Mode, real.spec.mode))
        )
        if classes and not given.labels:
            raise UserError(f"{images} has no classes to measure within; leave --per-class out")
        pictures, labels = given.images, _names_of(given)
    cache = cache_root(None) / "measures"
    report = judge(
        pictures,
        real,
        extractor=seen_by,
        metrics=metrics or None,
        n=n,
        seed=seed,
        baseline=baseline,
        cache=cache,
        progress=True,
    )
    lines = [*_report_lines(report.rows()), *report.remarks, *report.notes]
    values = report.to_dict()
    if classes:
        same = choose(len(pictures), n or len(pictures), seed, "samples").tolist()
        within = per_class(
            pictures[same],
            [labels[i] for i in same],
            real,
            _names_of(real),
            extractor=seen_by,
            seed=seed,
            baseline=baseline,
            cache=cache,
            progress=True,
        )
        lines += ["within classes:", *_report_lines(within.rows()), *_class_lines(within), *within.notes]
        values["per_class"] = within.to_dict()
    return Outcome(tuple(lines), values)


def _names_of(pictures: Dataset) -> list[str]:
    """The class of each picture by name, [] if there are none."""
    if pictures.label is None:
        return []
    return [pictures.labels[number] for number in pictures.label.tolist()]


def _class_lines(within: ClassReport) -> list[str]:
    width = max(map(len, within.classes))
    return [
        f"  {name:<{width}}  "
        + ", ".join(f"{s.name} {s.value:.3g} [{s.low:.3g}, {s.high:.3g}]" for s in scores.values())
        for name, scores in within.classes.items()
    ]


def compare(
    runs: tuple[str, ...],
    reference: DataConfig,
    out: Path,
    n: int,
    seed: int,
    extractors: tuple[str, ...],
    metrics: tuple[str, ...],
    classes: bool,
    overwrite: bool,
) -> Outcome:
    """Judge runs side by side: one table, one page."""
    if not reference.source:
        raise UserError("give the real pictures with --reference: a folder, a .zip, 'mnist', 'builtin:glyphs' …")
    path = free(out, overwrite)
    result = side_by_side(
        runs,
        reference,
        n=n,
        seed=seed,
        extractors=extractors,
        metrics=metrics,
        classes=classes,
        tell=lambda said: print(said, file=sys.stderr),
        progress=True,
    )
    write_page(result, path)
    lines = (*table(result).splitlines(), *result.remarks, *result.notes, f"page: {path}")
    return Outcome(lines, {**result.to_dict(), "page": str(path)})


def _report_lines(found: Sequence[Row]) -> list[str]:
    rows = {row.name: {k: v for k, v in dataclasses.asdict(row).items() if k != "name"} for row in found}
    return [*measure_lines(rows), *(f"  {name}: {row['receipt']}" for name, row in rows.items())]
