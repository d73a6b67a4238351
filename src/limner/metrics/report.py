"""What :func:`limner.metrics.evaluate` returns, and how it is told."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from limner.metrics.measures import way
from limner.metrics.originality import Copies
from limner.metrics.scores import Score


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
        better=way(score.metric),
        receipt=str(score.receipt),
    )
