"""``package.module:function``: a function of the user's own as an extractor. Naming it runs that code.

The function takes pictures (N, C, H, W), float32 in [-1, 1], and gives features (N, D). It must give the same features
for the same pictures each time: a network belongs in ``eval()``.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.errors import UserError, nearest
from limner.features.extractor import Extractor, Images, as_tensor
from limner.random import bits

Shape = tuple[int, int, int]
#: Pictures that a function is tried on before it judges any.
_PROBES = 4
_MOST_DIMENSIONS = 2**20


def loader(name: str) -> Callable[[Shape, torch.device], Extractor]:
    """From "package.module:function" to what makes the extractor for pictures (H, W, C).

    Raises:
        UserError: there is no such module or function. Whatever the module or the function itself raises becomes one
            line too.
    """
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        raise UserError(f"extractor '{name}' is not of the form package.module:function")
    module = _imported(module_name, name)
    function = getattr(module, function_name, None)
    if function is None:
        known = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        raise UserError(f"'{module_name}' has no function '{function_name}'{nearest(function_name, known)}")
    if not callable(function):
        raise UserError(f"'{name}' is no function of pictures but {type(function).__name__}")
    return lambda shape, device: _extractor(name, function, _source(module), shape, device)


def _imported(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise UserError(f"no module '{module}' for extractor '{name}'; is its folder on PYTHONPATH?") from error
        raise UserError(f"'{module}' cannot be imported: {error}") from error
    except Exception as error:  # the user's code: anything can come out
        raise UserError(f"'{module}' cannot be imported: {_said(error)}") from error


def _source(module: Any) -> bytes:
    """The module's text, so that a change of it shows in receipts; b"" if it has none."""
    file = getattr(module, "__file__", None)
    return Path(file).read_bytes() if file and Path(file).is_file() else b""


def _extractor(
    name: str, function: Callable[[Tensor], Any], source: bytes, shape: Shape, device: torch.device
) -> Extractor:
    def forward(images: Images) -> Tensor:
        with torch.no_grad():
            return _checked(name, function, as_tensor(images, device) * 2.0 - 1.0)

    # Features of fixed noise stand for weights that the source does not show: kept statistics must not outlive them.
    noise = bits(0, torch.arange(_PROBES), "features/probe", count=shape[0] * shape[1] * shape[2])
    probes = (noise & 255).to(torch.uint8).reshape(_PROBES, *shape).numpy()
    first, again = forward(probes).cpu(), forward(probes).cpu()
    if not torch.equal(first, again):
        raise UserError(f"extractor '{name}' gives other features for the same pictures; is a network not in eval()?")
    digest = hashlib.sha256(source + name.encode() + np.ascontiguousarray(first.numpy()).tobytes())
    return Extractor(
        name=name,
        dim=first.shape[1],
        fingerprint=digest.hexdigest()[:12],
        resizer="its own",
        channels=(1, 3, 4),
        forward=forward,
        shape=shape,
        batch=100,
    )


def _checked(name: str, function: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    try:
        found = function(x)
    except Exception as error:  # the user's code: anything can come out
        raise UserError(f"extractor '{name}' failed on pictures {tuple(x.shape)}: {_said(error)}") from error
    if not isinstance(found, Tensor):
        raise UserError(f"extractor '{name}' returned {type(found).__name__}; return a tensor (N, D)")
    if found.ndim != 2 or len(found) != len(x) or not 1 <= found.shape[1] <= _MOST_DIMENSIONS:
        raise UserError(f"extractor '{name}' made {tuple(found.shape)} of {len(x)} pictures; return (N, D)")
    features = found.float()
    if not bool(features.isfinite().all()):
        raise UserError(f"extractor '{name}' returned features that are not finite")
    return features


def _said(error: BaseException) -> str:
    """An exception on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
