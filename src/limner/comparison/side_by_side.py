"""The comparison: every contender is judged by the same measures against the same real pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.comparison.contenders import Contender, gather
from limner.data import DataConfig, Dataset, open_dataset
from limner.downloads import cache_root
from limner.errors import UserError
from limner.features import Extractor, load_extractor
from limner.metrics import (
    METRICS,
    ClassReport,
    Report,
    Score,
    better,
    check_metrics,
    default_for,
    disagreements,
    evaluate,
    per_class,
    remarks,
)

#: Pictures of each that are judged by default.
JUDGED = 2_000
#: Digits of the weights' hash that tell extractors of one name apart.
_TAG = 6


@dataclass(frozen=True)
class Line:
    """One measure of all contenders.

    Attributes:
        name: which carries the protocol.
        scores: in the order of the contenders; None where one has no such score.
        real: what real held-out pictures score, if that was measured.
        best: the number of the contender whose interval is apart from all others' on the better side, if there is one.
    """

    name: str
    scores: tuple[Score | None, ...]
    real: Score | None
    best: int | None

    @staticmethod
    def of(scores: Sequence[Score | None], real: Score | None) -> Line:
        known = [score for score in scores if score is not None]
        best = None
        for i, score in enumerate(scores):
            others = [other for other in known if other is not score]
            if score is not None and others and all(better(score, other) > 0 for other in others):
                best = i
        return Line(known[0].name, tuple(scores), real, best)


@dataclass(frozen=True, eq=False)
class SideBySide:
    """What :func:`compare` returns.

    Attributes:
        contenders: with the pictures that were judged.
        reference: the real pictures.
        lines: the table.
        remarks: sentences where measures contradict each other, or rank the contenders differently.
        notes: other sentences that a reader should see.
        seed: of the samples and of all keyed choices.
    """

    contenders: tuple[Contender, ...]
    reference: Dataset
    lines: tuple[Line, ...]
    remarks: tuple[str, ...]
    notes: tuple[str, ...]
    seed: int

    @property
    def same_numbers(self) -> bool:
        """Whether there are several generators, and all begin with the same random numbers."""
        kinds = [one.draws for one in self.contenders if one.draws]
        return len(kinds) > 1 and len(set(kinds)) == 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        names = [one.name for one in self.contenders]
        return {
            "reference": self.reference.report.source,
            "n": len(self.contenders[0].images),
            "seed": self.seed,
            "contenders": {one.name: {"source": one.source, **dataclasses.asdict(one.cost)} for one in self.contenders},
            "measures": {
                line.name: {
                    "scores": {
                        name: None if score is None else dataclasses.asdict(score)
                        for name, score in zip(names, line.scores, strict=True)
                    },
                    "real": None if line.real is None else dataclasses.asdict(line.real),
                    "best": None if line.best is None else names[line.best],
                }
                for line in self.lines
            },
            "remarks": list(self.remarks),
            "notes": list(self.notes),
        }


def compare(
    sources: Sequence[str],
    reference: DataConfig | str,
    *,
    n: int = JUDGED,
    seed: int = 0,
    extractors: Sequence[str] = ("wavelets",),
    metrics: Sequence[str] = (),
    classes: bool = False,
    cache: Path | None = None,
    tell: Callable[[str], None] = lambda said: None,
    progress: bool = False,
) -> SideBySide:
    """Judge generators, or sets of pictures, side by side.

    Args:
        sources: runs, snapshots, or pictures as ``--data`` takes them; two at least.
        reference: the real pictures.
        n: pictures of each; fewer where a set of pictures has fewer.
        seed: of the samples and all keyed choices; picture i of every generator has the same number and class.
        extractors: what looks at them; several show whether they agree.
        metrics: names of :data:`limner.metrics.METRICS`; () takes what suits each extractor.
        classes: also measure within each class, where all contenders have classes.
        cache: of decoded pictures and reference statistics.
        tell: is told what goes on.
        progress: bars on stderr.

    Raises:
        UserError: anything the user can put right.
    """
    settings = DataConfig(reference) if isinstance(reference, str) else reference
    if not extractors:
        raise UserError("no extractor named; leave --extractors out, or name one")
    check_metrics(metrics)
    real = open_dataset(settings, cache=cache, progress=progress)
    height, width, channels = real.images.shape[1:]
    eyes, told = _apart(
        [(name, load_extractor(name, shape=(height, width, channels))) for name in dict.fromkeys(extractors)]
    )
    for eye in eyes:
        check_metrics(metrics, eye)  # before minutes of drawing
    if classes and (real.label is None or not real.labels):
        raise UserError(f"{settings.source} has no classes to measure within; leave --per-class out")
    found, notes = gather(sources, settings, real, n, seed, tell)
    table = _Table(found, real, seed, cache_root(cache) / "measures", progress)
    for i, eye in enumerate(eyes):
        asked = tuple(metrics) or default_for(eye)
        # Near copies are looked for among pixels, whatever the extractor: once is enough.
        wanted = asked if i == 0 else tuple(name for name in asked if not (name in METRICS and METRICS[name].pixels))
        tell(f"judging through {eye.name}")
        if wanted:
            table.measure(eye, wanted)
        if classes:
            table.within_classes(eye)
    ranked = {one.name: table.ranked(i) for i, one in enumerate(found)}
    return SideBySide(
        contenders=tuple(found),
        reference=real,
        lines=tuple(table.lines),
        remarks=(*table.remarks, *disagreements(ranked)),
        notes=tuple(dict.fromkeys([*notes, *told, *table.notes])),
        seed=seed,
    )


def _apart(given: Sequence[tuple[str, Extractor]]) -> tuple[list[Extractor], list[str]]:
    """The extractors, each once, by what the user calls them; and what is to be said of those that have one name and
    other weights: theirs is made part of it, so that no score overwrites another's."""
    once: dict[tuple[str, str], tuple[str, Extractor]] = {}
    for asked, eye in given:
        once.setdefault((eye.name, eye.fingerprint), (asked, eye))
    names = [name for name, _ in once]
    eyes, told = [], []
    for asked, eye in once.values():
        tag = f"-{eye.fingerprint[:_TAG]}" if names.count(eye.name) > 1 else ""
        published = {metric: f"{start}{tag}" for metric, start in eye.published.items()}
        eyes.append(dataclasses.replace(eye, name=f"{eye.name}{tag}", published=published))
        told += [f"{eyes[-1].name} is {asked}"] if tag else []
    return eyes, told


class _Table:
    """Lines as they are measured, with what is to be said beside them."""

    def __init__(self, found: Sequence[Contender], real: Dataset, seed: int, cache: Path, progress: bool) -> None:
        self.found, self.real, self.seed, self.cache, self.progress = found, real, seed, cache, progress
        self.lines: list[Line] = []
        self.remarks: list[str] = []
        self.notes: list[str] = []

    def measure(self, eye: Extractor, metrics: Sequence[str]) -> None:
        reports: list[Report] = []
        for one in self.found:
            # What real pictures score is the same for all: it is measured once.
            report = evaluate(
                one.images,
                self.real,
                extractor=eye,
                metrics=metrics,
                seed=self.seed,
                baseline=not reports,
                cache=self.cache,
                progress=self.progress,
            )
            reports.append(report)
            known = reports[0].baseline
            self.remarks += [f"{one.name}: {said}" for said in remarks(report.by_metric(), known)]
        for scores in zip(*(report.scores.values() for report in reports), strict=True):
            self.lines.append(Line.of(scores, reports[0].baseline.get(scores[0].metric)))
        self.notes += reports[0].notes

    def within_classes(self, eye: Extractor) -> None:
        names = [] if self.real.label is None else [self.real.labels[k] for k in self.real.label.tolist()]
        reports: dict[str, ClassReport] = {}
        for one in self.found:
            if not one.labels:
                self.notes.append(f"{one.name} has no classes, and so no measures within them")
                continue
            try:
                reports[one.name] = per_class(
                    one.images,
                    one.labels,
                    self.real,
                    names,
                    extractor=eye,
                    seed=self.seed,
                    baseline=not reports,
                    cache=self.cache,
                    progress=self.progress,
                )
            except UserError as error:  # its classes are none of the reference: the others are compared all the same
                self.notes.append(f"{one.name}: {error}")
        self.notes += [f"{name}: {said}" for name, report in reports.items() for said in report.notes]
        known = next((report.baseline for report in reports.values()), {})
        for title, metric in dict.fromkeys((s.name, m) for r in reports.values() for m, s in r.means.items()):
            # Scores of other names are of other counts: they stand in lines of their own.
            row = [reports[one.name].means.get(metric) if one.name in reports else None for one in self.found]
            scores = [score if score is not None and score.name == title else None for score in row]
            self.lines.append(Line.of(scores, known.get(metric)))

    def ranked(self, number: int) -> list[Score]:
        """The scores of one contender that all have."""
        return [score for line in self.lines if None not in line.scores and (score := line.scores[number]) is not None]
