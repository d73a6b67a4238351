"""The measures by name: what each needs to see, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from limner.features import Extractor
from limner.metrics.frechet import merged
from limner.metrics.intervals import Interval, jackknife, mean_interval, wilson
from limner.metrics.kid import kernel_distance
from limner.metrics.manifold import NEIGHBOURS
from limner.metrics.originality import NEIGHBOURS as COPY_NEIGHBOURS
from limner.metrics.originality import RATIO
from limner.metrics.report import Receipt, Score, count_name
from limner.metrics.sides import Comparison

_WILSON = "95 % Wilson, the other side held fixed"


@dataclass(frozen=True)
class Measure:
    """What it needs to see of both sides, and how it scores them."""

    score: Callable[[Comparison], Score]
    features: bool = False
    moments: bool = False
    pixels: bool = False


def _made(
    c: Comparison,
    metric: str,
    value: float,
    spread: Interval,
    *,
    counts: tuple[int, int],
    interval: str,
    settings: str = "",
    label: str | None = None,
    suffix: str = "",
    extractor: Extractor | None = None,
) -> Score:
    """A score with name and receipt. ``counts`` are (samples, reference pictures)."""
    seen = c.extractor if extractor is None else extractor
    name = f"{label or metric}_{seen.name}_{count_name(counts[0])}{suffix}"
    receipt = Receipt(
        extractor=seen.name,
        weights=seen.fingerprint,
        resizer=seen.resizer,
        n=counts[0],
        n_reference=counts[1],
        reference=c.reference,
        seed=c.seed,
        interval=interval,
        settings=settings,
    )
    return Score(metric, name, value, *spread, receipt)


def _frechet(c: Comparison) -> Score:
    value = c.frechet.distance(merged(c.fake.blocks))
    spread = jackknife(c.fake.blocks, c.frechet.distance, value)
    return _made(
        c,
        "fd",
        value,
        spread,
        counts=(c.fake.count, c.real.count),
        interval="95 % jackknife over 10 blocks of the samples",
        settings="mean over 256 bands" if c.extractor.packets else "",
    )


def _kernel(c: Comparison) -> Score:
    fake, real = c.features
    found = kernel_distance(fake, real, seed=c.seed)
    half = 1.96 * found.std
    return _made(
        c,
        "kid",
        found.mean,
        (found.mean - half, found.mean + half),
        counts=(len(fake), len(real)),
        interval="1.96 standard deviations over subsets",
        settings=f"{found.subsets} subsets of {found.size}",
    )


def _manifold(metric: str) -> Callable[[Comparison], Score]:
    def score(c: Comparison) -> Score:
        o = c.overlap
        fakes, reals = len(o.inside), len(o.reached)
        value: float = getattr(o, metric)
        over = {"precision": fakes, "recall": reals, "coverage": reals}.get(metric)
        spread = mean_interval(o.inside / o.k) if over is None else wilson(value, over)
        return _made(
            c,
            metric,
            value,
            spread,
            counts=(fakes, reals),
            interval="95 % normal, the other side held fixed" if over is None else _WILSON,
            settings=f"k={NEIGHBOURS}",
            suffix=f"_k{NEIGHBOURS}",
        )

    return score


def _originality(c: Comparison) -> Score:
    copies = c.copies
    count = len(copies.ratio)
    return _made(
        c,
        "originality",
        copies.share,
        wilson(copies.share, count),
        counts=(count, c.real.count),
        interval=_WILSON,
        settings=f"nearer than {RATIO} of the mean of {COPY_NEIGHBOURS} nearest, or its mirror image is",
        label="near_copies",
        extractor=c.pixels,
    )


#: By the name that users write.
METRICS: dict[str, Measure] = {
    "fd": Measure(_frechet, moments=True),
    "kid": Measure(_kernel, features=True),
    "precision": Measure(_manifold("precision"), features=True),
    "recall": Measure(_manifold("recall"), features=True),
    "density": Measure(_manifold("density"), features=True),
    "coverage": Measure(_manifold("coverage"), features=True),
    "originality": Measure(_originality, pixels=True),
}
