"""The measures by name: what each needs to see, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from limner.errors import UserError, nearest
from limner.features import Extractor
from limner.metrics.choice import shuffled
from limner.metrics.frechet import merged
from limner.metrics.inception_score import SPLITS, inception_score
from limner.metrics.intervals import DRAWS, GROUPS, Interval, bootstrap, jackknife, share_of_groups, wilson
from limner.metrics.kid import kernel_distance
from limner.metrics.manifold import NEIGHBOURS
from limner.metrics.originality import NEIGHBOURS as COPY_NEIGHBOURS
from limner.metrics.originality import RATIO
from limner.metrics.report import Receipt, Score, count_name
from limner.metrics.sides import Comparison

_WILSON = "95 % Wilson, the reference held fixed"
_BOOTSTRAP = f"95 % bootstrap of {DRAWS:,} keyed draws of the samples, the reference held fixed"
_K = f"_k{NEIGHBOURS}"
_JACKKNIFE = f"95 % jackknife over {GROUPS} keyed groups of the samples, the reference held fixed"


@dataclass(frozen=True)
class Measure:
    """What it needs to see of both sides, and how it scores them. ``logits`` are class scores of the samples, and
    ``suffix`` ends the names of its scores. ``fewest`` samples are needed."""

    score: Callable[[Comparison], Score]
    features: bool = False
    moments: bool = False
    logits: bool = False
    pixels: bool = False
    suffix: str = ""
    fewest: int = 1


def score_name(extractor: Extractor, metric: str, count: int, suffix: str = "", *, label: str | None = None) -> str:
    """The name that carries the protocol: the measure (as ``label``, where that differs), the extractor, the count."""
    start = extractor.published.get(metric, f"{label or metric}_{extractor.name}")
    return f"{start}_{count_name(count)}{suffix}"


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
    name = score_name(seen, metric, counts[0], suffix, label=label)
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
        interval=f"{_JACKKNIFE}; about the distance of this many samples, its upward bias included",
        settings="mean over 256 bands" if c.extractor.packets else "",
    )


def _kernel(c: Comparison) -> Score:
    fake, real = c.features
    found = kernel_distance(fake, real, seed=c.seed)
    return _made(
        c,
        "kid",
        found.mean,
        bootstrap(found.terms, found.mean, seed=c.seed, stream="kid"),
        counts=(len(fake), len(real)),
        interval=_BOOTSTRAP,
        settings=f"{found.subsets} subsets of {found.size}, standard deviation over them {found.std:.2g}",
    )


def _overlap(c: Comparison, metric: str, value: float, spread: Interval, interval: str) -> Score:
    return _made(
        c,
        metric,
        value,
        spread,
        counts=(len(c.overlap.inside), len(c.overlap.reached)),
        interval=interval,
        settings=f"k={NEIGHBOURS}",
        suffix=_K,
    )


def _precision(c: Comparison) -> Score:
    value = c.overlap.precision
    return _overlap(c, "precision", value, wilson(value, len(c.overlap.inside)), _WILSON)


def _recall(c: Comparison) -> Score:
    o = c.overlap
    return _overlap(c, "recall", o.recall, _without_groups(o.recall, o.recall_without, len(o.inside)), _JACKKNIFE)


def _density(c: Comparison) -> Score:
    o = c.overlap
    spread = bootstrap(o.inside / o.k, o.density, seed=c.seed, stream="density")
    return _overlap(c, "density", o.density, spread, _BOOTSTRAP)


def _coverage(c: Comparison) -> Score:
    o = c.overlap
    spread = _without_groups(o.coverage, o.coverage_without, len(o.inside))
    return _overlap(c, "coverage", o.coverage, spread, _JACKKNIFE)


def _without_groups(share: float, left_out: Tensor | None, count: int) -> Interval:
    if left_out is None:
        raise ValueError("the samples of this comparison were not put into groups")
    return share_of_groups(share, left_out, count)


def _inception_score(c: Comparison) -> Score:
    # Shuffled: splits are of consecutive samples, and samples often come sorted by class.
    order = shuffled(len(c.logits), c.seed, "inception-score")
    found = inception_score(c.logits[order])
    return _made(
        c,
        "inception_score",
        found.mean,
        bootstrap(found.terms, found.mean, seed=c.seed, stream="inception-score"),
        counts=(len(order), 0),
        interval=_BOOTSTRAP,
        settings=f"{SPLITS} splits, standard deviation over them {found.std:.2g}",
        label="is",
    )


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
    "fd": Measure(_frechet, moments=True, fewest=GROUPS),
    "kid": Measure(_kernel, features=True, fewest=2),
    "precision": Measure(_precision, features=True, suffix=_K, fewest=NEIGHBOURS + 1),
    "recall": Measure(_recall, features=True, suffix=_K, fewest=GROUPS),
    "density": Measure(_density, features=True, suffix=_K, fewest=NEIGHBOURS + 1),
    "coverage": Measure(_coverage, features=True, suffix=_K, fewest=GROUPS),
    "originality": Measure(_originality, pixels=True),
    "inception_score": Measure(_inception_score, logits=True, fewest=SPLITS),
}


def check_metrics(metrics: Iterable[str], extractor: Extractor | None = None) -> None:
    """Refuse names that nobody knows, and measures that the extractor cannot give.

    Raises:
        UserError: there is such a one.
    """
    for name in metrics:
        if name not in METRICS:
            raise UserError(f"unknown metric '{name}'{nearest(name, METRICS)}")
        if extractor is not None and METRICS[name].logits and extractor.logits is None:
            raise UserError(
                f"{name} needs an extractor that names classes, and '{extractor.name}' does not; take inception, or "
                "lenet, resnet-cifar or squeezenet, whose scores carry their names"
            )


def default_for(extractor: Extractor) -> tuple[str, ...]:
    """What is measured where nothing is asked for: what every extractor can say, and the Inception Score over the
    network that it was published with."""
    return tuple(name for name, measure in METRICS.items() if not measure.logits or name in extractor.published)
