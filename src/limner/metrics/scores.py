"""Scores with their receipts."""

from __future__ import annotations

from dataclasses import dataclass


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


def count_name(count: int) -> str:
    """2000 is "2k"; counts that are no whole thousands are written out."""
    return f"{count // 1000}k" if count >= 1000 and count % 1000 == 0 else str(count)
