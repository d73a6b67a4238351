"""The commands that judge: ``evaluate``, ``compare`` and ``likelihood``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from limner.commands import Outcome, measure_lines
from limner.comparison import JUDGED, free, table, write_page
from limner.comparison import compare as side_by_side
from limner.comparison.contenders import fits, told_of, told_of_classes, told_of_prompts
from limner.contracts import Model
from limner.data import DataConfig, Dataset
from limner.distributed import ALONE, World, join
from limner.downloads import cache_root
from limner.errors import UserError, within
from limner.features import load_extractor
from limner.metrics import ClassReport, Row, check_metrics, per_class
from limner.metrics import evaluate as judge
from limner.metrics.choice import choose
from limner.metrics.classes import class_numbers
from limner.metrics.evaluation import FEWEST, check_count
from limner.metrics.intervals import bootstrap
from limner.sampling import log_likelihood
from limner.sampling import sample as draw
from limner.sampling.draw import MOST
from limner.training.opening import open_together
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
    if n is not None:
        within("n", n, FEWEST, MOST)  # before minutes of drawing, as all that follows
    world = join()
    model = load(images, device=world.device) if is_model(images) else None
    real = open_together(reference, world) if model is None else as_drawn(model, reference, world)
    check_count("reference pictures", len(real))
    height, width, channels = real.images.shape[1:]
    seen_by = load_extractor(extractor, shape=(height, width, channels))
    check_metrics(metrics, seen_by)
    if classes and not real.labels:
        raise UserError(f"{reference.source} has no classes to measure within; leave --per-class out")
    labels: Sequence[str] = ()
    notes = told_of(real, "reference")
    if model is not None:
        fits(images, model, real)
        if classes and not model.labels:
            raise UserError(f"{images} was trained without classes; leave --per-class out")
        asked = class_numbers(model.labels, real, n or JUDGED) if model.labels else None
        pictures = draw(model, n or JUDGED, label=asked, seed=seed, world=world)
        if asked is not None:
            labels = [model.labels[number] for number in asked]
            notes += told_of_classes(images, model.labels, real)
        notes += told_of_prompts(images, model)
    else:
        given = open_together(reference.like(real.spec, images), world)
        if classes and not given.labels:
            raise UserError(f"{images} has no classes to measure within; leave --per-class out")
        pictures, labels = given.images, _names_of(given)
        notes = told_of(given, images) + notes
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
        progress=world.first,
        world=world,
    )
    report = dataclasses.replace(report, notes=(*notes, *report.notes))
    lines = [*_report_lines(report.rows()), *report.remarks, *report.notes]
    values = report.to_dict()
    if classes:
        same = choose(len(pictures), n or len(pictures), seed, "samples").tolist()
        try:
            inside = per_class(
                pictures[same],
                [labels[i] for i in same],
                real,
                _names_of(real),
                extractor=seen_by,
                seed=seed,
                baseline=baseline,
                cache=cache,
                progress=world.first,
            )
        except UserError as error:  # what was measured over all classes stands all the same
            lines.append(f"within classes: {error}")
            values["notes"].append(lines[-1])
        else:
            lines += ["within classes:", *_report_lines(inside.rows()), *_class_lines(inside), *inside.notes]
            values["per_class"] = inside.to_dict()
    return Outcome(tuple(lines), values)


def as_drawn(model: Model, reference: DataConfig, world: World = ALONE) -> Dataset:
    """The real pictures, brought to what this model draws where the user did not say otherwise."""
    real = open_together(reference, world)
    if real.spec == model.spec:
        return real
    like = reference.like(model.spec, reference.source)
    fitted = dataclasses.replace(
        reference,
        size=reference.size or like.size,
        mode=like.mode if reference.mode == "auto" else reference.mode,
        bits=like.bits if reference.bits == "auto" else reference.bits,
        buckets=0,
    )
    return real if fitted == reference else open_together(fitted, world)


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


def likelihood(model: Path, reference: DataConfig, n: int, seed: int, steps: int, codes: int) -> Outcome:
    """How many bits a model needs for real pictures, or how many nats for their tokens."""
    if not reference.source:
        raise UserError("give the real pictures with --reference: a folder, a .zip, 'mnist', 'builtin:glyphs' …")
    within("n", n, 2, MOST)
    loaded = load(model)
    spec = loaded.spec
    real = as_drawn(loaded, reference)
    which = np.linspace(0, len(real) - 1, min(n, len(real))).astype(np.int64)
    label = numbers_of(loaded, real.labels, real.label[which]) if loaded.labels and real.label is not None else None
    captions = captions_of(loaded, real, which)
    bound = log_likelihood(
        loaded, real.images[which], label=label, captions=captions, seed=seed, steps=steps, codes=codes
    )
    told, unit = (
        (bound.nats_per_token(), "nats a token")
        if bound.tokens
        else (bound.bits_per_dimension(spec.values), "bits a dimension")
    )
    mean = float(told.mean())
    low, high = bootstrap(told, mean, seed=seed, stream="likelihood")
    kind = "exactly ln P" if bound.kind == "exact" else f"{bound.kind} bound of ln P"
    receipt = f"{kind}, {bound.how}, {len(which):,} pictures"
    name = unit.replace(" a ", "_per_")
    values = {name: mean, "low": low, "high": high, "kind": bound.kind, "n": len(which), "seed": seed}
    lines = [f"{mean:.3f} {unit} [{low:.3f}, {high:.3f}] of {reference.source} (lower is better)"]
    if bound.tokens:
        lines.append(
            "  of its codec's tokens: not to be compared with another codec's, or bits a dimension of pictures"
        )
    return Outcome((*lines, f"  {receipt}, seed {seed}"), values | {"receipt": receipt})


def numbers_of(model: Model, names: tuple[str, ...], label: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A data set's classes as the model numbers them."""
    unknown = sorted(set(names) - set(model.labels))
    if unknown:
        raise UserError(f"the pictures have the class '{unknown[0]}', which this model does not know")
    return np.array([model.labels.index(name) for name in names])[label]


def captions_of(model: Model, pictures: Dataset, which: npt.NDArray[np.int64]) -> list[str] | None:
    """The captions of these pictures, None where the model reads none or there are none."""
    if model.text is None or pictures.captions is None:
        return None
    return [pictures.captions[row] for row in which.tolist()]


def _report_lines(found: Sequence[Row]) -> list[str]:
    rows = {row.name: {k: v for k, v in dataclasses.asdict(row).items() if k != "name"} for row in found}
    return [*measure_lines(rows), *(f"  {name}: {row['receipt']}" for name, row in rows.items())]
