"""Extractors by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from limner.errors import UserError, nearest
from limner.features import lenet, pixels, resnet, squeezenet, wavelets
from limner.features.extractor import Extractor

Shape = tuple[int, int, int]

_NETWORKS: dict[str, Callable[[Path | None, torch.device], Extractor]] = {
    "lenet": lenet.load,
    "resnet-cifar": resnet.load,
    "squeezenet": squeezenet.load,
}


_WEIGHTLESS: dict[str, Callable[[Shape, torch.device], Extractor]] = {"wavelets": wavelets.load, "pixels": pixels.load}

#: The names that :func:`load_extractor` knows.
EXTRACTORS: tuple[str, ...] = (*_WEIGHTLESS, *_NETWORKS)


def load_extractor(
    name: str, weights: Path | None = None, *, shape: Shape | None = None, device: str | torch.device = "cpu"
) -> Extractor:
    """An extractor by name.

    Args:
        name: one of :data:`EXTRACTORS`, or "lenet=FILE" to name the weights too.
        weights: their file; None looks in the folder ``LIMNER_MIRROR``.
        shape: (H, W, C) of the pictures. ``wavelets`` and ``pixels`` need it; the networks use it to refuse early.
        device: where it computes.

    Raises:
        UserError: an unknown name (with the nearest), missing or foreign weights, pictures that it cannot read.
    """
    base, equals, file = name.partition("=")
    if base not in EXTRACTORS:
        raise UserError(f"unknown extractor '{base}'{nearest(base, EXTRACTORS)}")
    given = Path(file).expanduser() if equals else weights
    where = torch.device(device)
    if base in _WEIGHTLESS:
        if given is not None:
            raise UserError(f"extractor '{base}' has no weights; leave '{given}' away")
        if shape is None:
            raise ValueError(f"extractor '{base}' needs the shape (H, W, C) of the pictures")
        extractor = _WEIGHTLESS[base](shape, where)
    else:
        extractor = _NETWORKS[base](given, where)
    if shape is not None:
        extractor.check((0, *shape))
    return extractor
