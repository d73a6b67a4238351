"""Which guidance suits a run's pictures, from the distances of a few samples of some."""

from __future__ import annotations

from collections.abc import Mapping

#: By what share a guidance has to be better than the recipe's.
CLEARLY = 0.05


def best_guidance(distances: Mapping[float, float]) -> float:
    """That of the least distance, if it is clearly less than the first one's; where that lies between two others, the
    least of the parabola through these three.

    The same noise draws all samples, so distances differ by far less than each of them is off.

    Args:
        distances: by guidance, the recipe's own first.
    """
    own, best = next(iter(distances)), min(distances, key=lambda one: distances[one])
    if distances[best] >= (1 - CLEARLY) * distances[own]:
        return own
    tried = sorted(distances)
    at = tried.index(best)
    if at in (0, len(tried) - 1):
        return best
    return round(_least(*((one, distances[one]) for one in tried[at - 1 : at + 2])), 2)


def _least(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> float:
    """Where the parabola through three points has its least value; the middle one is not above the others."""
    (a, fa), (b, fb), (c, fc) = first, middle, last
    slope = (fb - fa) / (b - a)
    bend = ((fc - fb) / (c - b) - slope) / (c - a)
    return b if bend <= 0 else min(max((a + b - slope / bend) / 2, a), c)
