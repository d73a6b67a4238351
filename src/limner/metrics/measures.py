"""The measures by name: what each needs to see, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

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
from limner.metrics.scores import Receipt, Score, count_name
from limner.metrics.sides import Comparison

_WILSON = "95 % Wilson, the reference held fixed"
_BOOTSTRAP = f"95 % bootstrap of {DRAWS:,} keyed draws of the samples, the reference held fixed"
_K = f"_k{NEIGHBOURS}"
_JACKKNIFE = f"95 % jackknife over {GROUPS} keyed groups of the samples, the reference held fixed"


@dataclass(frozen=True)
class Measure:
    """What it needs to see of both sides, how it scores them, and how that is read.

    Attributes:
        score: the sides to a score.
        better: which way is good.
        meaning: what it says, a sentence.
        features, moments, logits, pixels: what it needs; ``logits`` are class scores of the samples.
        label: what the names of its scores begin with, where that is not its own name.
        suffix: what they end with.
        fewest: samples that are needed.
        ranks: whether a better value makes a better generator.
    """

    score: Callable[[Comparison], Score]
    better: Literal["lower", "higher"]
    meaning: str
    features: bool = False
    moments: bool = False
    logits: bool = False
    pixels: bool = False
    label: str = ""
    suffix: str = ""
    fewest: int = 1
    ranks: bool = True


#: What is measured within classes alone: the share of samples that a classifier takes for what they were asked to be.
LABEL_ACCURACY = "label_accuracy"
_WITHIN = "class_"


def score_name(extractor: Extractor, metric: str, count: int) -> str:
    """The name that carries the protocol: the measure, the extractor, the count."""
    measure = METRICS.get(metric)
    label, suffix = (measure.label, measure.suffix) if measure else ("", "")
    start = extractor.published.get(metric, f"{label or metric}_{extractor.name}")
    return f"{start}_{count_name(count)}{suffix}"


def way(metric: str) -> Literal["lower", "higher"]:
    """Which way is good, of a measure or its mean over classes ("class_fd")."""
    return "higher" if metric == LABEL_ACCURACY else METRICS[metric.removeprefix(_WITHIN)].better


def ranks(metric: str) -> bool:
    """Whether a better value of a measure, or of its mean over classes, makes a better generator."""
    return metric == LABEL_ACCURACY or METRICS[metric.removeprefix(_WITHIN)].ranks


def _made(
    c: Comparison,
    metric: str,
    value: float,
    spread: Interval,
    *,
    counts: tuple[int, int],
    interval: str,
    settings: str = "",
    extractor: Extractor | None = None,
) -> Score:
    """A score with name and receipt. ``counts`` are (samples, reference pictures)."""
    seen = c.extractor if extractor is None else extractor
    name = score_name(seen, metric, counts[0])
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
        extractor=c.pixels,
    )


#: By the name that users write.
METRICS: dict[str, Measure] = {
    "fd": Measure(
        _frechet,
        "lower",
        "Distance between the statistics of samples and of real pictures.",
        moments=True,
        fewest=GROUPS,
    ),
    "kid": Measure(
        _kernel,
        "lower",
        "The same by a kernel; unbiased for few samples, may fall below zero.",
        features=True,
        fewest=2,
    ),
    "precision": Measure(
        _precision,
        "higher",
        "Share of samples that look like real pictures.",
        features=True,
        suffix=_K,
        fewest=NEIGHBOURS + 1,
    ),
    "recall": Measure(
        _recall,
        "higher",
        "Share of real pictures that the generator could have drawn.",
        features=True,
        suffix=_K,
        fewest=GROUPS,
    ),
    # It is above that of real pictures where a generator keeps to typical ones.
    "density": Measure(
        _density,
        "higher",
        "How many real pictures each sample lies among; above 1 where it keeps to the most typical.",
        features=True,
        suffix=_K,
        fewest=NEIGHBOURS + 1,
        ranks=False,
    ),
    "coverage": Measure(
        _coverage,
        "higher",
        "Share of real pictures with a sample nearby.",
        features=True,
        suffix=_K,
        fewest=GROUPS,
    ),
    "originality": Measure(
        _originality,
        "lower",
        "Share of samples that repeat a training picture.",
        pixels=True,
        label="near_copies",
    ),
    "inception_score": Measure(
        _inception_score,
        "higher",
        "How surely and how variously a classifier names classes; real pictures are not looked at.",
        logits=True,
        label="is",
        fewest=SPLITS,
    ),
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
