"""Measures within each class: a generator may be right over all and wrong in each.

The Fréchet distance and coverage of a class's samples against the real pictures of that class, their means over
classes, and the share of samples that a classifier takes for what they were asked to be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from limner.errors import UserError, nearest
from limner.features import Extractor, Images, load_extractor
from limner.metrics.choice import choose, partition
from limner.metrics.intervals import GROUPS, wilson
from limner.metrics.measures import LABEL_ACCURACY, METRICS, score_name
from limner.metrics.notes import notes_on_baseline, notes_on_counts
from limner.metrics.report import Row, row
from limner.metrics.scores import Receipt, Score
from limner.metrics.sides import Comparison, Eye, HasImages, Pictures, Side
from limner.metrics.store import Store

#: What is measured within a class.
WITHIN: tuple[str, ...] = ("fd", "coverage")
#: Fewest samples and real pictures of a class that is measured.
FEWEST = 20
#: Held-out real pictures are at most this share of the reference.
_HELD_SHARE = 5
Names = npt.NDArray[np.str_]


@dataclass(frozen=True)
class ClassReport:
    """What :func:`per_class` returns.

    Attributes:
        classes: scores by class, then by metric.
        means: by metric ("class_fd", "class_coverage"): the mean over those classes, each counting alike; and
            "label_accuracy", the share of samples that the extractor's classifier takes for their class, where it knows
            all of them.
        baseline: what real held-out pictures score, by the same metrics, where there are enough in every class.
        notes: sentences that a reader should see beside the scores.
    """

    classes: dict[str, dict[str, Score]]
    means: dict[str, Score]
    baseline: dict[str, Score]
    notes: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """Lines of a table: the means."""
        return [row(score, self.baseline.get(metric)) for metric, score in self.means.items()]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "classes": {name: {m: asdict(s) for m, s in scores.items()} for name, scores in self.classes.items()},
            "means": {score.name: asdict(score) for score in self.means.values()},
            "baseline": {metric: asdict(score) for metric, score in self.baseline.items()},
            "notes": list(self.notes),
        }


def per_class(
    images: HasImages | Images,
    labels: Sequence[str],
    reference: HasImages | Images,
    reference_labels: Sequence[str],
    *,
    extractor: Extractor | None = None,
    metrics: Sequence[str] = WITHIN,
    seed: int = 0,
    baseline: bool = False,
    cache: Path | None = None,
    progress: bool = False,
) -> ClassReport:
    """Scores within each class that both sides have.

    Args:
        images, reference: as for :func:`limner.metrics.evaluate`; all of both are used.
        labels, reference_labels: the name of each picture's class.
        extractor: None is ``wavelets``.
        metrics: of :data:`METRICS`, any that look through the extractor at both sides.
        baseline: whether to report what real held-out pictures score, a keyed fifth of the reference against the rest.
        seed, cache, progress: as for :func:`limner.metrics.evaluate`.

    Raises:
        UserError: no class has enough pictures on both sides, or the pictures cannot be read.
    """
    for name in metrics:
        if name not in METRICS or METRICS[name].logits or METRICS[name].pixels:
            fit = [one for one, m in METRICS.items() if not (m.logits or m.pixels)]
            raise UserError(f"metric '{name}' is not measured within classes{nearest(name, fit)}")
    given, real = Pictures.of(images, "images"), Pictures.of(reference, "reference pictures")
    height, width, channels = real.shape[1:]
    shape = (height, width, channels)
    eye = Eye(extractor or load_extractor("wavelets", shape=shape), Store(cache), progress=progress)
    judge = _Judge(eye, load_extractor("pixels", shape=shape), tuple(metrics), real.fingerprint, seed)
    fake = judge.look(given, labels, keep=False)
    truth = judge.look(real, reference_labels, keep=True)
    names, notes = _common(fake.labels, truth.labels)
    classes = judge.classes(fake, truth, names)
    counts = _enough(fake.labels, truth.labels)
    dim = judge.dimensions(given) if any(METRICS[name].moments for name in metrics) else None
    notes += notes_on_counts(min(counts.values()), dim, " of a class")
    known: dict[str, Score] = {}
    if baseline:
        apart = choose(len(truth.labels), min(len(fake.labels), len(truth.labels) // _HELD_SHARE), seed, "held-out")
        held, rest = truth.part(apart), truth.part(_others(apart, len(truth.labels)))
        if set(names) <= _enough(held.labels, rest.labels).keys():
            known = judge.means(judge.classes(held, rest, names), held)
        unseen = int(np.isin(held.labels, names).sum())
        compared = metrics if known else ()
        notes += notes_on_baseline(sum(counts.values()), unseen, metrics, compared, " of these classes")
    return ClassReport(classes, judge.means(classes, fake), known, tuple(notes))


@dataclass(frozen=True, eq=False)
class _Seen:
    """Pictures with the names of their classes, and their features, where those are wanted."""

    pictures: Pictures
    labels: Names
    features: Tensor | None

    def part(self, which: Tensor) -> _Seen:
        features = None if self.features is None else self.features[which]
        return _Seen(self.pictures.part(which), self.labels[which.numpy()], features)

    def of_class(self, name: str) -> _Seen:
        return self.part(torch.from_numpy(np.flatnonzero(self.labels == name)))


@dataclass(frozen=True)
class _Judge:
    """What looks, and what is asked."""

    eye: Eye
    pixels: Extractor
    metrics: tuple[str, ...]
    reference: str
    seed: int

    def look(self, pictures: Pictures, labels: Sequence[str], *, keep: bool) -> _Seen:
        if len(pictures) != len(labels):
            raise UserError(f"{len(labels)} labels for {len(pictures)} pictures; give one for each")
        self.eye.extractor.check(pictures.shape)
        wanted = self.eye.extractor.packets is None or any(METRICS[name].features for name in self.metrics)
        features = self.eye.features(pictures, keep=keep) if wanted else None
        return _Seen(pictures, np.asarray(labels, dtype=str), features)

    def classes(self, fake: _Seen, real: _Seen, names: Iterable[str]) -> dict[str, dict[str, Score]]:
        """Scores by class, then by metric."""
        return {name: self._within(fake.of_class(name), real.of_class(name), name) for name in names}

    def _within(self, fake: _Seen, real: _Seen, name: str) -> dict[str, Score]:
        groups = partition(len(fake.labels), GROUPS, self.seed, f"class-groups/{name}")
        sides = (
            self._side(fake, groups),
            self._side(real, torch.zeros(len(real.labels), dtype=torch.int64)),
        )
        compared = Comparison(self.eye.extractor, self.pixels, *sides, self.reference, self.seed, self.eye.store)
        return {metric: METRICS[metric].score(compared) for metric in self.metrics}

    def _side(self, seen: _Seen, groups: Tensor) -> Side:
        """What is seen of one class; there may be many, so nothing is kept of them."""
        wanted = any(METRICS[name].moments for name in self.metrics)
        moments = self.eye.moments(seen.pictures, seen.features, groups, keep=False) if wanted else ()
        return Side(len(seen.labels), seen.features, moments)

    def dimensions(self, pictures: Pictures) -> int:
        """Of the Fréchet distance."""
        return self.eye.extractor.groups(pictures[:1]).shape[2]

    def means(self, classes: Mapping[str, Mapping[str, Score]], fake: _Seen) -> dict[str, Score]:
        """Means over classes, and the share of all samples that are taken for their class."""
        out = {}
        for metric in self.metrics:
            scores = [found[metric] for found in classes.values()]
            out[f"class_{metric}"] = _mean(self.eye.extractor, metric, scores)
        return out | self._accuracy(fake)

    def _accuracy(self, fake: _Seen) -> dict[str, Score]:
        extractor = self.eye.extractor
        if not extractor.classes or not set(fake.labels.tolist()) <= set(extractor.classes):
            return {}
        taken = self.eye.logits(fake.pictures, fake.features).argmax(dim=1).numpy()
        count = len(taken)
        share = float((np.asarray(extractor.classes)[taken] == fake.labels).mean())
        receipt = _receipt(extractor, count, 0, self.reference, self.seed, "95 % Wilson")
        name = score_name(extractor, LABEL_ACCURACY, count)
        return {LABEL_ACCURACY: Score(LABEL_ACCURACY, name, share, *wilson(share, count), receipt)}


def _receipt(extractor: Extractor, n: int, n_reference: int, reference: str, seed: int, interval: str) -> Receipt:
    return Receipt(extractor.name, extractor.fingerprint, extractor.resizer, n, n_reference, reference, seed, interval)


def _mean(extractor: Extractor, metric: str, scores: Sequence[Score]) -> Score:
    """Classes are independent: the squares of their half intervals add. The mean lies between the classes' ends.

    An interval that was cut at a bound is as wide as its other side.
    """
    count = len(scores)
    value = math.fsum(score.value for score in scores) / count
    half = math.hypot(*(max(s.high - s.value, s.value - s.low) for s in scores)) / count
    low, high = max(value - half, min(s.low for s in scores)), min(value + half, max(s.high for s in scores))
    first = scores[0].receipt
    each = sorted({score.receipt.n for score in scores})
    receipt = replace(
        first,
        n=sum(score.receipt.n for score in scores),
        n_reference=sum(score.receipt.n_reference for score in scores),
        interval=f"{first.interval}; of each class, which are independent",
        settings=f"mean over {count} classes of {each[0]} to {each[-1]} samples"
        + (f", {first.settings}" if first.settings else ""),
    )
    name = score_name(extractor, metric, receipt.n)
    return Score(f"class_{metric}", f"class_{name}", value, low, high, receipt)


def _enough(asked: Names, known: Names) -> dict[str, int]:
    """Classes with enough pictures on both sides, and how many the first has."""
    counts = [dict(zip(*np.unique(names, return_counts=True), strict=True)) for names in (asked, known)]
    return {str(name): int(n) for name, n in counts[0].items() if min(n, counts[1].get(name, 0)) >= FEWEST}


def _common(asked: Names, known: Names) -> tuple[list[str], list[str]]:
    """The classes to measure, and what is to be said of the others."""
    enough = list(_enough(asked, known))
    if not enough:
        raise UserError(
            f"no class has {FEWEST} samples and {FEWEST} reference pictures; the samples have the classes "
            f"{_listed(np.unique(asked))}, the reference {_listed(np.unique(known))}"
        )
    notes = []
    left_out = [str(name) for name in np.unique(asked) if str(name) not in enough]
    if left_out:
        notes.append(
            f"{len(left_out)} classes have fewer than {FEWEST} pictures on a side and are left out: {_listed(left_out)}"
        )
    unasked = sorted(set(known.tolist()) - set(asked.tolist()))
    if unasked:
        notes.append(f"{len(unasked)} classes of the reference are not among the samples: {_listed(unasked)}")
    return enough, notes


def _listed(names: Sequence[str] | Names) -> str:
    shown = ", ".join(str(name) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _others(which: Tensor, count: int) -> Tensor:
    rest = torch.ones(count, dtype=torch.bool)
    rest[which] = False
    return rest.nonzero()[:, 0]
