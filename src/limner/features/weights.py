"""Finds and opens weight files. Nothing is ever unpickled beyond plain tensors."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from limner.downloads import cache_root, check, download
from limner.errors import UserError


@dataclass(frozen=True)
class Published:
    """A weights file that can be had: where, its SHA-256, and its size in bytes."""

    url: str
    sha256: str
    size: int


#: Weights that are downloaded where neither a path nor the mirror has them.
PUBLISHED: dict[str, Published] = {
    "inception": Published(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        95_628_359,
    ),
}
#: Where a mirror folder (``LIMNER_MIRROR``) keeps the weights, relative to it.
MIRROR: dict[str, str] = {
    "inception": "weights/inception/pt_inception-2015-12-05-6726825d.pth",
    "lenet": "weights/csinva/mnist_classifier/weights/lenet_epoch=12_test_acc=0.991.pth",
    "resnet-cifar": "weights/resnet_cifar10/pretrained_models/resnet56-4bfd9763.th",
    "squeezenet": "weights/squeezenet_dc/squeezenet1_0_deepcompression_fp32.npz",
}
_MOST_BYTES = 2**30


def find(name: str, given: Path | None) -> Path:
    """The weights file of an extractor: the one given, else the mirror's, else a checked download, kept in the cache.

    Raises:
        UserError: there is none; it says which file is wanted.
    """
    if given is not None:
        if not given.is_file():
            raise UserError(f"no weights for extractor '{name}' at {given}; give an existing file")
        return given
    folder = os.environ.get("LIMNER_MIRROR")
    path = Path(folder) / MIRROR[name] if folder else None
    if path is not None and path.is_file():
        if name in PUBLISHED:
            check(path, PUBLISHED[name].sha256)
        return path
    if name in PUBLISHED:
        return _fetched(PUBLISHED[name])
    if path is None:
        raise UserError(
            f"extractor '{name}' needs its weights: give a file as '{name}=FILE', "
            f"or set LIMNER_MIRROR to a folder that holds {MIRROR[name]}"
        )
    raise UserError(f"no weights for extractor '{name}' at {path}; give a file as '{name}=FILE'")


def _fetched(file: Published) -> Path:
    path = cache_root(None) / "downloads" / "weights" / file.url.rpartition("/")[2]
    if path.is_file():
        check(path, file.sha256)
    else:
        download(file.url, path, file.sha256, file.size)
    return path


def is_published(name: str, path: Path) -> bool:
    """Whether a file is the one that :data:`PUBLISHED` names, by its content."""
    try:
        check(path, PUBLISHED[name].sha256)
    except UserError:
        return False
    return True


def read(path: Path) -> dict[str, Tensor]:
    """Named float32 tensors of a ``.pth`` / ``.th`` or ``.npz`` file, told apart by content, or a ``.safetensors``.

    A state dict under the key "state_dict" is taken out, and the prefix "module." of data-parallel training dropped.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path} is larger than 1 GiB; this is not the weights file of an extractor")
    try:
        tensors = _open(path)
    except Exception as error:  # of safetensors, numpy, zlib, zipfile or torch's unpickler
        raise UserError(f"cannot read the weights in {path}: it is damaged or not a file of plain tensors") from error
    named = {name.removeprefix("module."): t.float() for name, t in tensors.items() if isinstance(t, Tensor)}
    if not named:
        raise UserError(f"{path} holds no weights")
    return named


def _open(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            arrays = all(name.endswith(".npy") for name in archive.namelist())
        if arrays:
            with np.load(path, allow_pickle=False) as data:
                return {name: torch.from_numpy(data[name]) for name in data.files}
    state = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise ValueError("not a state dict")
    return {str(name): value for name, value in state.items()}


def fill(net: nn.Module, tensors: dict[str, Tensor], path: Path, names: dict[str, str] | None = None) -> str:
    """Puts the tensors into the net, every key accounted for, readies it to look at pictures, and returns the short
    SHA-256 of its weights.

    ``names`` maps names in the file to names in the net, where they differ.
    """
    given = {(names or {}).get(name, name): value for name, value in tensors.items()}
    want = net.state_dict()
    optional = {name for name in want if name.endswith("num_batches_tracked")}
    missing = sorted(set(want) - set(given) - optional)
    unknown = sorted(set(given) - set(want))
    shapes = sorted(name for name in set(want) & set(given) if want[name].shape != given[name].shape)
    for what, wrong in (("lacks", missing), ("has the unknown", unknown), ("has other shapes for", shapes)):
        if wrong:
            raise UserError(f"{path} is not the weights of {type(net).__name__}: it {what} {', '.join(wrong[:5])}")
    net.load_state_dict(given, strict=False)
    net.eval().requires_grad_(False)
    # 1.3 to 1.8 times as fast on a CPU.
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return digest({name: given[name] for name in set(want) - optional})


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The short SHA-256 of named tensors."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def fingerprint(definition: str) -> str:
    """The short SHA-256 of a definition, for extractors without weights."""
    return hashlib.sha256(definition.encode()).hexdigest()[:12]
