"""A panel instead of one number: plain sentences where measures contradict each other.

Every rule looks at scores beside what real held-out pictures score, and speaks only where the intervals stand apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from limner.metrics.measures import ranks, way
from limner.metrics.scores import Score

Scores = Mapping[str, Score]
#: A Fréchet distance or KID up to so many times that of held-out real pictures counts as near it.
_NEAR = 5.0
#: A share below so much of real pictures' is short of it.
_SHORT = 0.85
#: Near copies this many times as frequent as among real held-out pictures are too many.
_COPIES = 2.0


def remarks(scores: Scores, real: Scores) -> tuple[str, ...]:
    """What a reader of these scores should be warned of; both are by metric ("fd"), ``real`` of held-out pictures."""
    return tuple(said for rule in RULES if (said := rule(scores, real)))


def _dropped(scores: Scores, real: Scores) -> str:
    """Recall or coverage is short although what is drawn passes for real."""
    short = [name for name in ("recall", "coverage") if _short(scores, real, name)]
    distance, looks = _near(scores, real), _matches(scores, real, "precision")
    if not short or not (distance or looks):
        return ""
    fine = _beside(scores, real, distance or "precision")
    return (
        f"{fine} is near that of real pictures, but {' and '.join(_beside(scores, real, one) for one in short)} "
        f"{'are' if len(short) > 1 else 'is'} not: some kinds of pictures are hardly drawn (dropped modes)"
    )


def _strange(scores: Scores, real: Scores) -> str:
    """Precision is short although the Fréchet distance is near."""
    distance = _near(scores, real)
    if not distance or not _short(scores, real, "precision"):
        return ""
    return (
        f"{_beside(scores, real, distance)} is near that of real pictures, but {_beside(scores, real, 'precision')} is "
        "not: statistics over all samples are right, and many single samples look like no real picture"
    )


def _copying(scores: Scores, real: Scores) -> str:
    """Near copies are many."""
    found, known = scores.get("originality"), real.get("originality")
    if found is None or known is None or found.low <= max(known.high, _COPIES * known.value):
        return ""
    distance = _near(scores, real)
    rewarded = f"; {scores[distance].name} rewards copying, so do not read it as quality" if distance else ""
    return (
        f"{found.value:.1%} of the samples are near copies of reference pictures, as against {known.value:.1%} of real "
        f"held-out ones: the generator repeats what it was trained on{rewarded}"
    )


def _typical(scores: Scores, real: Scores) -> str:
    """Density is above that of real pictures while coverage is short."""
    density, known = scores.get("density"), real.get("density")
    if density is None or known is None or density.low <= known.high or not _short(scores, real, "coverage"):
        return ""
    return (
        f"{_beside(scores, real, 'density')} is above that of real pictures, and {_beside(scores, real, 'coverage')} "
        "below: the generator keeps to the most typical pictures (too much guidance, perhaps)"
    )


def _distances(scores: Scores, real: Scores) -> str:
    """The Fréchet distance and KID disagree on whether the samples are near."""
    if not {"fd", "kid"} <= scores.keys() & real.keys():
        return ""
    near = {name: _close(scores[name], real[name]) for name in ("fd", "kid")}
    far = {name: scores[name].low > 2 * _NEAR * max(real[name].high, 0.0) for name in ("fd", "kid")}
    for one, other in (("fd", "kid"), ("kid", "fd")):
        if near[one] and far[other]:
            return (
                f"{_beside(scores, real, one)} is near that of real pictures, and {_beside(scores, real, other)} is "
                "far from it: trust neither alone"
            )
    return ""


#: In the order in which they are told.
RULES: tuple[Callable[[Scores, Scores], str], ...] = (_dropped, _strange, _copying, _typical, _distances)


def disagreements(runs: Mapping[str, Sequence[Score]]) -> tuple[str, ...]:
    """Where measures, or extractors, rank two generators differently and neither by chance.

    Args:
        runs: the scores of each generator by its name; the same measures in the same order.
    """
    told = []
    for (one, left), (other, right) in combinations(runs.items(), 2):
        ways = [(a.name, better(a, b)) for a, b in zip(left, right, strict=True)]
        first = [name for name, way in ways if way > 0]
        second = [name for name, way in ways if way < 0]
        if first and second:
            told.append(
                f"{', '.join(first)} {_prefer(first)} {one} to {other}, and {', '.join(second)} {_prefer(second)} "
                f"{other} to {one}, with intervals apart: look at the pictures, and ask what matters to you"
            )
    return tuple(told)


def better(a: Score, b: Score) -> int:
    """1 if ``a`` is better than ``b`` and their intervals are apart, -1 if ``b`` is, 0 if they overlap or the measure
    does not tell better from worse."""
    if not ranks(a.metric) or (a.low <= b.high and b.low <= a.high):
        return 0
    return 1 if (a.value < b.value) == (way(a.metric) == "lower") else -1


def _prefer(names: Sequence[str]) -> str:
    return "prefers" if len(names) == 1 else "prefer"


def _near(scores: Scores, real: Scores) -> str:
    """ "fd" or "kid", whichever is near that of real pictures; "" if neither is known to be."""
    for name in ("fd", "kid"):
        if name in scores and name in real and _close(scores[name], real[name]):
            return name
    return ""


def _close(score: Score, known: Score) -> bool:
    # Fewer pictures have a larger Fréchet distance: beside that of fewer real ones, samples seem near that are not.
    if score.metric == "fd" and score.receipt.n != known.receipt.n:
        return False
    return score.value <= max(known.high, _NEAR * known.value)


def _short(scores: Scores, real: Scores, name: str) -> bool:
    if name not in scores or name not in real:
        return False
    return scores[name].high < min(real[name].low, _SHORT * real[name].value)


def _matches(scores: Scores, real: Scores, name: str) -> bool:
    return name in scores and name in real and scores[name].high >= real[name].low


def _beside(scores: Scores, real: Scores, name: str) -> str:
    return f"{scores[name].name} ({scores[name].value:.3g}, real {real[name].value:.3g})"
