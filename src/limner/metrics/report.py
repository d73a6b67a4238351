"""Scores with their receipts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from limner.metrics.originality import Copies

#: Which way is good, a metric at a time.
BETTER: dict[str, str] = {
    "fd": "lower",
    "kid": "lower",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    "originality": "lower",
    "inception_score": "higher",
    "label_accuracy": "higher",
}
BETTER |= {f"class_{metric}": way for metric, way in BETTER.items()}


@dataclass(frozen=True)
class Receipt:
    """What a score was computed from; enough to compute it again.

    Attributes:
        extractor, weights, resizer: what looked at the pictures, the short SHA-256 of its weights or definition, and
            how the pictures reached its size.
        n, n_reference: how many samples and reference pictures went in; no reference pictures into an Inception Score.
        reference: fingerprint of the reference pictures.
        seed: of the keyed choices.
        interval: how ``low`` and ``high`` were found.
        settings: neighbours, subsets and the like.
    """

    extractor: str
    weights: str
    resizer: str
    n: int
    n_reference: int
    reference: str
    seed: int
    interval: str
    settings: str = ""

    def __str__(self) -> str:
        settings = f", {self.settings}" if self.settings else ""
        against = f", {self.n_reference} reference pictures {self.reference[:12]}" if self.n_reference else ""
        return (
            f"{self.extractor} {self.weights} (resize: {self.resizer}), {self.n} samples{against}, "
            f"seed {self.seed}{settings}; interval: {self.interval}"
        )


@dataclass(frozen=True)
class Score:
    """A value with its 95 % interval. ``metric`` is "fd", "kid", ...; ``name`` carries the protocol too."""

    metric: str
    name: str
    value: float
    low: float
    high: float
    receipt: Receipt


@dataclass(frozen=True)
class Row:
    """One line of a table. ``real`` is what held-out real pictures score, None if they were not measured."""

    name: str
    value: float
    low: float
    high: float
    real: float | None
    better: str
    receipt: str


@dataclass(frozen=True)
class Report:
    """What :func:`limner.metrics.evaluate` returns.

    Attributes:
        scores: by the name that carries the protocol, as "fd_wavelets_2k".
        baseline: what real held-out pictures score, by metric ("fd"); the near-copy share always has one.
        copies: the nearest training picture of each sample that was looked at, if originality was asked for.
        looked_at: indices of those samples among the pictures given.
        remarks: sentences where the measures contradict each other (:mod:`limner.metrics.panel`).
        notes: other sentences that a reader should see beside the scores.
    """

    scores: dict[str, Score]
    baseline: dict[str, Score] = field(default_factory=dict)
    copies: Copies | None = field(default=None, compare=False)
    looked_at: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def value(self, metric: str) -> float:
        """The value of "fd", "kid", "precision", ...; KeyError if it was not asked for."""
        for score in self.scores.values():
            if score.metric == metric:
                return score.value
        raise KeyError(metric)

    def by_metric(self) -> dict[str, Score]:
        """The scores by "fd", "kid", …"""
        return {score.metric: score for score in self.scores.values()}

    def rows(self) -> list[Row]:
        """Lines of a table, in the order that was asked for."""
        return [row(score, self.baseline.get(score.metric)) for score in self.scores.values()]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        out: dict[str, Any] = {
            "scores": {name: dataclasses.asdict(score) for name, score in self.scores.items()},
            "baseline": {metric: dataclasses.asdict(score) for metric, score in self.baseline.items()},
            "remarks": list(self.remarks),
            "notes": list(self.notes),
        }
        if self.copies is not None:
            near = self.copies.near.tolist()
            out["near_copies"] = [
                {"sample": sample, "training": training, "ratio": ratio}
                for sample, training, ratio, copy in zip(
                    self.looked_at, self.copies.index.tolist(), self.copies.ratio.tolist(), near, strict=True
                )
                if copy
            ]
        return out


def row(score: Score, real: Score | None) -> Row:
    """A line of a table, beside what real held-out pictures score."""
    return Row(
        name=score.name,
        value=score.value,
        low=score.low,
        high=score.high,
        real=None if real is None else real.value,
        better=BETTER[score.metric],
        receipt=str(score.receipt),
    )


def count_name(count: int) -> str:
    """2000 is "2k"; counts that are no whole thousands are written out."""
    return f"{count // 1000}k" if count >= 1000 and count % 1000 == 0 else str(count)
