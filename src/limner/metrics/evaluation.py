"""Judges pictures against reference pictures, with several measures at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.distributed import ALONE, World
from limner.errors import UserError
from limner.features import Extractor, Images, extract, load_extractor
from limner.metrics.choice import choose, partition
from limner.metrics.distances import Points
from limner.metrics.frechet import merged
from limner.metrics.intervals import GROUPS
from limner.metrics.measures import METRICS, check_metrics, default_for
from limner.metrics.notes import notes_on_baseline, notes_on_counts
from limner.metrics.panel import remarks
from limner.metrics.report import Report
from limner.metrics.scores import Score
from limner.metrics.sides import Comparison, Eye, HasImages, Pictures, Side
from limner.metrics.store import Store

#: Fewest samples and reference pictures that any measure says something about.
FEWEST = 20
#: Most samples whose nearest training pictures are looked for.
MOST_COPIES = 2_000
#: Held-out reference pictures are at most this share of them.
_HELD_SHARE = 5


@dataclass(frozen=True)
class _Needs:
    features: bool
    moments: bool
    logits: bool
    pixels: bool

    @staticmethod
    def of(metrics: Sequence[str]) -> _Needs:
        if not metrics:
            raise UserError(f"no metric asked for; choose from {', '.join(METRICS)}")
        chosen = [METRICS[name] for name in metrics]
        return _Needs(
            features=any(m.features for m in chosen),
            moments=any(m.moments for m in chosen),
            logits=any(m.logits for m in chosen),
            pixels=any(m.pixels for m in chosen),
        )


def evaluate(
    images: HasImages | Images,
    reference: HasImages | Images,
    *,
    extractor: Extractor | None = None,
    metrics: Sequence[str] | None = None,
    n: int | None = None,
    n_reference: int | None = None,
    seed: int = 0,
    held_out: HasImages | Images | None = None,
    baseline: bool = False,
    cache: Path | None = None,
    progress: bool = False,
    world: World = ALONE,
) -> Report:
    """Scores of ``images`` against ``reference``, each with an interval and a receipt.

    Several processes that call this together share the looking at ``images``, and each returns the report that one
    process would.

    Args:
        images: the pictures to judge, (N, H, W, C) uint8 or uint16, or a data set.
        reference: the real ones (training pictures, where originality is asked for).
        extractor: what looks at them; None is ``wavelets``.
        metrics: names of :data:`METRICS`; ``inception_score`` needs an extractor that names classes. None takes
            :func:`limner.metrics.measures.default_for` the extractor.
        n: how many of the images to judge, a keyed choice; None takes all.
        n_reference: how many of the reference pictures to use at most, the same ones for every ``seed``; None takes
            all.
        seed: of all other keyed choices.
        held_out: real pictures that the generator never saw, for the baseline; None holds out a keyed choice of the
            reference (at most a fifth), which is then compared with the rest.
        baseline: whether to report what real held-out pictures score, as far as there are enough of them; the near-copy
            share always has its baseline.
        cache: folder of reference statistics; None keeps none.
        progress: bars on stderr.
        world: the processes that look together, from ``limner.join()``.

    Raises:
        UserError: unknown metric, too few pictures, pictures of another shape than the reference.
    """
    given, known = Pictures.of(images, "images"), Pictures.of(reference, "reference pictures")
    held = None if held_out is None else Pictures.of(held_out, "held-out pictures")
    used = choose(len(known), len(known) if n_reference is None else n_reference, 0, "thinned")
    real = known if len(used) == len(known) else known.part(used)
    height, width, channels = real.shape[1:]
    shape = (height, width, channels)
    store = Store(cache)
    eye = Eye(extractor or load_extractor("wavelets", shape=shape), store, progress=progress, world=world)
    metrics = default_for(eye.extractor) if metrics is None else metrics
    check_metrics(metrics, eye.extractor)
    needs = _Needs.of(metrics)
    _check(given, real, held, n)
    eye.extractor.check(real.shape)
    pixels = load_extractor("pixels", shape=shape)

    chosen = choose(len(given), len(given) if n is None else n, seed, "samples")
    asked = tuple(metrics) if baseline else tuple(name for name in metrics if METRICS[name].pixels)
    unseen_count = min(len(chosen), len(real) // _HELD_SHARE if held is None else len(held))
    compared = tuple(name for name in asked if METRICS[name].fewest <= unseen_count)

    whole = _reference(eye, pixels, real, needs)
    samples = _samples(eye, pixels, given, chosen, needs, seed)
    comparison = Comparison(eye.extractor, pixels, samples, whole, known.fingerprint, seed, store)
    scores = [METRICS[name].score(comparison) for name in metrics]
    baseline_scores: dict[str, Score] = {}
    if compared:
        source = real if held is None else held
        which = choose(len(source), unseen_count, seed, "held-out")
        unseen = _samples(eye, pixels, source, which, _Needs.of(compared), seed)
        rest = _without(whole, which, unseen) if held is None else whole
        truth = Comparison(eye.extractor, pixels, unseen, rest, known.fingerprint, seed, store)
        baseline_scores = {name: METRICS[name].score(truth) for name in compared}
    return Report(
        scores={score.name: score for score in scores},
        baseline=baseline_scores,
        copies=replace(comparison.copies, neighbours=used[comparison.copies.neighbours]) if needs.pixels else None,
        looked_at=tuple(chosen[_copy_choice(len(chosen), seed)].tolist()) if needs.pixels else (),
        remarks=remarks({score.metric: score for score in scores}, baseline_scores),
        notes=(
            *notes_on_counts(len(chosen), samples.blocks[0].mean.shape[1] if samples.blocks else None),
            *([eye.extractor.limits] if eye.extractor.limits else []),
            *notes_on_baseline(len(chosen), unseen_count, asked, compared),
        ),
    )


def _samples(eye: Eye, pixels: Extractor, pictures: Pictures, which: Tensor, needs: _Needs, seed: int) -> Side:
    """What is seen of pictures that are judged, those with the indices ``which``."""
    kept = pictures.part(which)
    both = needs.logits and eye.extractor.head is not None  # class scores that follow from the features
    features = eye.features(kept, keep=False) if both or _wants_features(eye, needs) else None
    groups = partition(len(which), GROUPS, seed, "groups")
    moments = eye.moments(kept, features, groups, keep=False) if needs.moments else ()
    logits = eye.logits(kept, features) if needs.logits else None
    views = None
    if needs.pixels:
        looked = kept[_copy_choice(len(which), seed).numpy()]
        mirrored = np.ascontiguousarray(looked[:, :, ::-1])
        views = (torch.from_numpy(extract(pixels, looked)), torch.from_numpy(extract(pixels, mirrored)))
    return Side(len(which), features, moments, logits, pixels=views)


def _reference(eye: Eye, pixels: Extractor, pictures: Pictures, needs: _Needs) -> Side:
    """What is seen of the reference, each picture once."""
    features = eye.features(pictures, keep=True) if _wants_features(eye, needs) else None
    one = torch.zeros(len(pictures), dtype=torch.int64)
    moments = eye.moments(pictures, features, one, keep=True) if needs.moments else ()
    points = Points.of(torch.from_numpy(extract(pixels, pictures)), dtype=torch.float32) if needs.pixels else None
    return Side(len(pictures), features, moments, training=points, whole=True)


def _without(whole: Side, which: Tensor, unseen: Side) -> Side:
    """What is left of a reference without the pictures ``which``, of which ``unseen`` is what was seen."""
    rest = torch.ones(whole.count, dtype=torch.bool)
    rest[which] = False
    moments = (merged(whole.blocks).without(merged(unseen.blocks)),) if unseen.blocks else ()
    features = None if whole.features is None else whole.features[rest]
    training = None if whole.training is None else whole.training.part(rest)
    return Side(int(rest.sum()), features, moments, training=training)


def _wants_features(eye: Eye, needs: _Needs) -> bool:
    return needs.features or (needs.moments and eye.extractor.packets is None)


def _copy_choice(count: int, seed: int) -> Tensor:
    """The samples whose nearest training pictures are looked for."""
    return choose(count, MOST_COPIES, seed, "copies")


def _check(given: Pictures, real: Pictures, held: Pictures | None, n: int | None) -> None:
    for what, pictures in (("images", given), ("held-out pictures", held)):
        if pictures is not None and pictures.shape[1:] != real.shape[1:]:
            raise UserError(
                f"the {what} are {pictures.describe()}, the reference pictures {real.describe()}; "
                "give both in one size and mode"
            )
    counts = {"images": len(given), "reference pictures": len(real)}
    if held is not None:
        counts["held-out pictures"] = len(held)
    for what, count in counts.items():
        check_count(what, count)
    if n is not None and not FEWEST <= n <= len(given):
        raise UserError(f"n = {n}, but there are {len(given)} images, and at least {FEWEST} are needed")


def check_count(what: str, count: int) -> None:
    """Raises a UserError if these are too few for the measures."""
    if count < FEWEST:
        raise UserError(f"only {count:,} {what}; the measures need at least {FEWEST}")
