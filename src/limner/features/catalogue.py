"""Extractors by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from limner.errors import UserError, nearest
from limner.features import custom, hub, inception, lenet, pixels, resnet, squeezenet, wavelets
from limner.features.extractor import Extractor
from limner.files import expanded

Shape = tuple[int, int, int]

_WEIGHTLESS: dict[str, Callable[[Shape, torch.device], Extractor]] = {"wavelets": wavelets.load, "pixels": pixels.load}
_NETWORKS: dict[str, Callable[[Path | None, torch.device], Extractor]] = {
    "lenet": lenet.load,
    "resnet-cifar": resnet.load,
    "squeezenet": squeezenet.load,
    "inception": inception.load,
}
_HUB: dict[str, Callable[[str | None, torch.device], Extractor]] = {"dinov2": hub.load_dinov2, "clip": hub.load_clip}

#: The names that :func:`load_extractor` knows.
EXTRACTORS: tuple[str, ...] = (*_WEIGHTLESS, *_NETWORKS, *_HUB)


def load_extractor(
    name: str, weights: Path | None = None, *, shape: Shape | None = None, device: str | torch.device = "cpu"
) -> Extractor:
    """An extractor by name.

    Args:
        name: one of :data:`EXTRACTORS`, or "lenet=FILE" to name the weights too; "dinov2=FOLDER" and "clip=FOLDER" take
            a folder that ``transformers`` saved, or a name on its hub; "package.module:function" is a function of
            yours, which is imported and run (:mod:`limner.features.custom`).
        weights: their file; None looks in the folder ``LIMNER_MIRROR``, and downloads where they are published.
        shape: (H, W, C) of the pictures. ``wavelets``, ``pixels`` and a function of yours need it; the networks use it
            to refuse early.
        device: where it computes.

    Raises:
        UserError: an unknown name (with the nearest), missing or foreign weights, pictures that it cannot read.
    """
    base, equals, file = name.partition("=")
    if equals and not file:
        raise UserError(f"'{name}' names nothing after '='; name the weights there, or leave the '=' away")
    given = file if equals else None if weights is None else str(weights)
    where = torch.device(device)
    if base in _NETWORKS:
        extractor = _NETWORKS[base](None if given is None else expanded(given), where)
    elif base in _HUB:
        extractor = _HUB[base](given, where)
    else:
        extractor = _bound(base, given, shape, where)
    if shape is not None:
        extractor.check((0, *shape))
    return extractor


def _bound(name: str, weights: str | None, shape: Shape | None, device: torch.device) -> Extractor:
    """An extractor that is made for pictures of one shape, and that has no weights of ours."""
    load = custom.loader(name) if ":" in name else _WEIGHTLESS.get(name)
    if load is None:
        raise UserError(f"unknown extractor '{name}'{nearest(name, EXTRACTORS)}")
    if weights is not None:
        raise UserError(f"extractor '{name}' has no weights; leave '{weights}' away")
    if shape is None:
        raise ValueError(f"extractor '{name}' needs the shape (H, W, C) of the pictures")
    return load(shape, device)
