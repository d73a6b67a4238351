"""Judges pictures against reference pictures, with several measures at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from limner.metrics.panel import remarks
from limner.metrics.report import Report, Score
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
        reference: the real ones, all of which are used (training pictures, where originality is asked for).
        extractor: what looks at them; None is ``wavelets``.
        metrics: names of :data:`METRICS`; ``inception_score`` needs an extractor that names classes. None takes
            :func:`limner.metrics.measures.default_for` the extractor.
        n: how many of the images to judge, a keyed choice; None takes all.
        seed: of all keyed choices.
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
    given, real = Pictures.of(images, "images"), Pictures.of(reference, "reference pictures")
    held = None if held_out is None else Pictures.of(held_out, "held-out pictures")
    height, width, channels = real.images.shape[1:]
    shape = (height, width, channels)
    store = Store(cache)
    eye = Eye(extractor or load_extractor("wavelets", shape=shape), store, progress=progress, world=world)
    metrics = default_for(eye.extractor) if metrics is None else metrics
    check_metrics(metrics, eye.extractor)
    needs = _Needs.of(metrics)
    _check(given, real, held, n)
    eye.extractor.check(real.images.shape)
    pixels = load_extractor("pixels", shape=shape)

    chosen = choose(len(given.images), n or len(given.images), seed, "samples")
    asked = tuple(metrics) if baseline else tuple(name for name in metrics if METRICS[name].pixels)
    unseen_count = min(len(chosen), len(real.images) // _HELD_SHARE if held is None else len(held.images))
    compared = tuple(name for name in asked if METRICS[name].fewest <= unseen_count)
    apart = torch.zeros(len(real.images), dtype=torch.bool)
    if compared and held is None:
        apart[choose(len(apart), unseen_count, seed, "held-out")] = True

    against = _Reference(eye, pixels, real, needs, apart)
    samples = _samples(eye, pixels, given, chosen, needs, seed)
    comparison = Comparison(eye.extractor, pixels, samples, against.side(), real.fingerprint, seed, store)
    scores = [METRICS[name].score(comparison) for name in metrics]
    known: dict[str, Score] = {}
    if compared:
        source = real if held is None else held
        which = apart.nonzero()[:, 0] if held is None else choose(len(held.images), unseen_count, seed, "held-out")
        unseen = _samples(eye, pixels, source, which, _Needs.of(compared), seed)
        rest = against.side(without_apart=True)
        truth = Comparison(eye.extractor, pixels, unseen, rest, real.fingerprint, seed, store)
        known = {name: METRICS[name].score(truth) for name in compared}
    return Report(
        scores={score.name: score for score in scores},
        baseline=known,
        copies=comparison.copies if needs.pixels else None,
        looked_at=tuple(chosen[_copy_choice(len(chosen), seed)].tolist()) if needs.pixels else (),
        remarks=remarks({score.metric: score for score in scores}, known),
        notes=(*_notes(eye.extractor, samples), *_baseline_notes(len(chosen), unseen_count, asked, compared)),
    )


def _samples(eye: Eye, pixels: Extractor, pictures: Pictures, which: Tensor, needs: _Needs, seed: int) -> Side:
    """What is seen of pictures that are judged, those with the indices ``which``."""
    kept = Pictures(np.asarray(pictures.images[which.numpy()]), "")
    both = needs.logits and eye.extractor.head is not None  # class scores that follow from the features
    features = eye.features(kept, keep=False) if both or _wants_features(eye, needs) else None
    groups = partition(len(which), GROUPS, seed, "groups")
    moments = eye.moments(kept, features, groups, keep=False) if needs.moments else ()
    logits = eye.logits(kept, features) if needs.logits else None
    views = None
    if needs.pixels:
        looked = kept.images[_copy_choice(len(which), seed).numpy()]
        mirrored = np.ascontiguousarray(looked[:, :, ::-1])
        views = (torch.from_numpy(extract(pixels, looked)), torch.from_numpy(extract(pixels, mirrored)))
    return Side(len(which), features, moments, logits, pixels=views)


class _Reference:
    """What is seen of the reference, each picture once. ``apart`` (N,) bool are its held-out pictures."""

    def __init__(self, eye: Eye, pixels: Extractor, pictures: Pictures, needs: _Needs, apart: Tensor) -> None:
        self.apart = apart
        self.features = eye.features(pictures, keep=True) if _wants_features(eye, needs) else None
        self.blocks = eye.moments(pictures, self.features, apart.long(), keep=True) if needs.moments else ()
        self.pixels = torch.from_numpy(extract(pixels, pictures.images)) if needs.pixels else None

    def side(self, *, without_apart: bool = False) -> Side:
        """All of the reference, or what is left of it without the held-out pictures."""
        if not without_apart:
            blocks = (merged(self.blocks),) if self.blocks else ()
            return Side(len(self.apart), self.features, blocks, training=_training(self.pixels))
        rest = ~self.apart
        features = None if self.features is None else self.features[rest]
        pixels = None if self.pixels is None else self.pixels[rest]
        return Side(int(rest.sum()), features, self.blocks[:1], training=_training(pixels))


def _training(pixels: Tensor | None) -> Points | None:
    return None if pixels is None else Points.of(pixels, dtype=torch.float32)


def _wants_features(eye: Eye, needs: _Needs) -> bool:
    return needs.features or (needs.moments and eye.extractor.packets is None)


def _copy_choice(count: int, seed: int) -> Tensor:
    """The samples whose nearest training pictures are looked for."""
    return choose(count, MOST_COPIES, seed, "copies")


def _check(given: Pictures, real: Pictures, held: Pictures | None, n: int | None) -> None:
    for what, pictures in (("images", given), ("held-out pictures", held)):
        if pictures is not None and pictures.images.shape[1:] != real.images.shape[1:]:
            raise UserError(
                f"the {what} are {pictures.describe()}, the reference pictures {real.describe()}; "
                "give both in one size and mode"
            )
    counts = {"images": len(given.images), "reference pictures": len(real.images)}
    if held is not None:
        counts["held-out pictures"] = len(held.images)
    for what, count in counts.items():
        if count < FEWEST:
            raise UserError(f"only {count} {what}; the measures need at least {FEWEST}")
    if n is not None and not FEWEST <= n <= len(given.images):
        raise UserError(f"n = {n}, but there are {len(given.images)} images, and at least {FEWEST} are needed")


def _notes(extractor: Extractor, samples: Side) -> tuple[str, ...]:
    """What a reader should know of the scores."""
    notes = []
    if samples.blocks:
        dim = samples.blocks[0].mean.shape[1]
        if samples.count <= dim:
            notes.append(f"{samples.count} samples for {dim} dimensions: the Fréchet distance is biased upwards")
    if samples.count < 1000:
        notes.append(f"only {samples.count} samples: compare these scores with those of equal counts alone")
    if extractor.limits:
        notes.append(extractor.limits)
    return tuple(notes)


def _baseline_notes(count: int, unseen: int, asked: Sequence[str], compared: Sequence[str]) -> list[str]:
    """What a reader should know of the scores of ``unseen`` held-out pictures beside those of ``count`` samples."""
    notes = []
    left_out = [name for name in asked if name not in compared]
    if left_out:
        notes.append(f"{unseen} held-out pictures are too few for a baseline of {', '.join(left_out)}")
    if unseen != count and not all(METRICS[name].pixels for name in compared):
        notes.append(
            f"the baseline is of {unseen} held-out pictures, the scores are of {count} samples: fewer pictures "
            "have a larger Fréchet distance, so these two are not to be compared"
        )
    return notes
