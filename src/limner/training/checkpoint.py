"""Checkpoints: all that resuming needs, atomic, the last few kept.

One safetensors file a checkpoint, named by images seen: the objective (networks and loss state), the averaged weights,
the optimisers' state. Data order and noise are functions of (seed, images seen) and need no state.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limner.errors import UserError
from limner.tensors import fill, load_tensors, save_tensors
from limner.training.ema import EMA

_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        seen: images seen.
        iteration: iterations done.
        seconds: wall-clock spent so far, in all sittings.
        interrupted: how many times it was taken up again.
    """

    seen: int = 0
    iteration: int = 0
    seconds: float = 0.0
    interrupted: int = 0


@dataclass(frozen=True)
class TrainingState:
    """What changes while training."""

    objective: nn.Module
    ema: EMA
    optimizers: dict[str, torch.optim.Optimizer]


def save_checkpoint(folder: Path, state: TrainingState, progress: Progress, keep: int) -> Path:
    """Write ``folder/IMAGES.safetensors`` and delete all but the newest ``keep``."""
    tensors = {f"objective.{name}": value for name, value in state.objective.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in state.ema.modules.state_dict().items()}
    for name, optimizer in state.optimizers.items():
        tensors |= {f"optimizer.{name}.{key}": value for key, value in _optimizer_tensors(optimizer).items()}
    path = folder / f"{progress.seen:012d}{_SUFFIX}"
    save_tensors(path, tensors, about=asdict(progress))
    for old in checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a folder, oldest first."""
    found = folder.glob(f"*{_SUFFIX}") if folder.is_dir() else ()
    return sorted(path for path in found if path.stem.isdigit())


def load_checkpoint(folder: Path, state: TrainingState) -> Progress:
    """Put the newest readable checkpoint into ``state``; nothing happens if there is none.

    Returns:
        Where the run stands.

    Raises:
        UserError: there are checkpoints, and none can be read.
    """
    found = checkpoints(folder)
    damage: UserError | None = None
    for path in reversed(found):
        try:
            tensors, about = load_tensors(path)
        except UserError as error:
            damage = error
            continue
        _restore(state, tensors, str(path))
        return Progress(**about)
    if damage is not None:
        raise damage
    return Progress()


def _restore(state: TrainingState, tensors: dict[str, Tensor], where: str) -> None:
    fill(state.objective, _below(tensors, "objective."), where)
    fill(state.ema.modules, _below(tensors, "ema."), where)
    for name, optimizer in state.optimizers.items():
        _restore_optimizer(optimizer, _below(tensors, f"optimizer.{name}."), where)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State by "INDEX.KEY". Settings are not kept: they come from the recipe, and the rate from the schedule."""
    out = {}
    for i, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            out[f"{i}.{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return out


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], where: str) -> None:
    parameters = _parameters(optimizer)
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        if int(number) >= len(parameters):
            raise UserError(f"{where} does not fit the recipe: it holds state of more parameters than the model has")
        parameter = parameters[int(number)]
        state: dict[str, Any] = optimizer.state[parameter]
        if value.shape == parameter.shape:
            # As the optimiser itself lays it out: like the parameter, which may be channels_last.
            state[key] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        else:
            state[key] = value.clone().to(parameter.device) if value.ndim else value.clone()
