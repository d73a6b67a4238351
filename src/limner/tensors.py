"""Tensors on disk: safetensors, whole or not there, and never unpickled."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limner.errors import UserError
from limner.files import write_whole
from limner.shards import put


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any] | None = None) -> None:
    """Write tensors, and plain values beside them, as one safetensors file that is whole or not there."""
    # Contiguous copies: a channels_last weight has no place of its own in the format.
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"limner": json.dumps(about or {})}
    write_whole(path, lambda temporary: _save(plain, temporary, metadata))


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """safetensors tells of a full disk in its own exception; give the error its number back."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else None, str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and plain values of :func:`save_tensors`. The tensors map the file: copy what is to outlive it.

    Raises:
        UserError: the file is missing, cut off or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("limner", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        if not path.exists():
            raise UserError(f"{path} is missing") from None
        raise UserError(f"{path} is damaged or cut off ({error}); restore it from a copy or train it again") from None


@torch.no_grad()
def fill(module: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Copy tensors into a module's state, which must have exactly these names and shapes; memory layout stays, and of
    sharded tensors each process takes its rows."""
    state = module.state_dict()
    if state.keys() != tensors.keys():
        missing, unknown = sorted(state.keys() - tensors.keys()), sorted(tensors.keys() - state.keys())
        raise UserError(f"{where} does not fit the model: missing {missing[:5]}, unknown {unknown[:5]}")
    for name, value in state.items():
        if value.shape != tensors[name].shape:
            raise UserError(
                f"{where}: '{name}' has the shape {tuple(tensors[name].shape)}, the model needs {tuple(value.shape)}"
            )
        put(value, tensors[name])
