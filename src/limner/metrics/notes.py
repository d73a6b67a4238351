"""What a reader should know of scores because of how many pictures they are of."""

from __future__ import annotations

from collections.abc import Sequence

from limner.metrics.measures import METRICS

_FEW = 1_000


def notes_on_counts(count: int, dim: int | None, where: str = "") -> list[str]:
    """Of scores of ``count`` samples ``where`` (" of a class"), ``dim`` being the dimensions of their Fréchet distance,
    if there is one."""
    notes = []
    if dim is not None and count <= dim:
        notes.append(f"{count} samples{where} for {dim} dimensions: the Fréchet distance is biased upwards")
    if count < _FEW:
        notes.append(f"only {count} samples{where}: compare these scores with those of equal counts alone")
    return notes


def notes_on_baseline(
    count: int, unseen: int, asked: Sequence[str], compared: Sequence[str], where: str = ""
) -> list[str]:
    """Of scores of ``unseen`` held-out pictures beside those of ``count`` samples, ``compared`` being the measures that
    have such a score of those that were ``asked`` to."""
    notes = []
    left_out = [name for name in asked if name not in compared]
    if left_out:
        notes.append(f"{unseen} held-out pictures{where} are too few for a baseline of {', '.join(left_out)}")
    if unseen != count and not all(METRICS[name].pixels for name in compared):
        notes.append(
            f"the baseline is of {unseen} held-out pictures{where}, the scores are of {count} samples{where}: fewer "
            "pictures have a larger Fréchet distance, so these two are not to be compared"
        )
    return notes
