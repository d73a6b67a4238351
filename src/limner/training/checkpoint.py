"""Checkpoints: all that resuming needs, atomic, finite, the last few kept.

One safetensors file a checkpoint, named by images seen: the objective (networks and loss state), the averaged weights,
the optimisers' state. Data order and noise are functions of (seed, images seen) and need no state.

A checkpoint is written when the clock says so, and read by a resume. An *anchor* is the same, written at iterations
that the settings name, and read when a run is taken back: where that leads must not depend on the clock.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limner.distributed import ALONE, World
from limner.errors import UserError
from limner.shards import on_first, put
from limner.tensors import fill, load_tensors, save_tensors
from limner.training.ema import EMA
from limner.training.soundness import finite

_SUFFIX = ".safetensors"
_ANCHOR = "anchor-"


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        seen: images seen.
        iteration: iterations done.
        seconds: wall-clock spent so far, in all sittings.
        interrupted: how many times it was taken up again.
        rate: factor on the learning rate, below 1 once the run had to be taken back.
        rollbacks: how many times it was.
        skips: steps skipped in all, because a loss or a gradient was not finite.
        skipped: iterations of those that still count towards the next roll-back.
    """

    seen: int = 0
    iteration: int = 0
    seconds: float = 0.0
    interrupted: int = 0
    rate: float = 1.0
    rollbacks: int = 0
    skips: int = 0
    skipped: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrainingState:
    """What changes while training. ``profiles`` are power-function averages by their widths."""

    objective: nn.Module
    ema: EMA
    optimizers: dict[str, torch.optim.Optimizer]
    profiles: dict[float, EMA] = field(default_factory=dict)

    @property
    def averages(self) -> dict[str, EMA]:
        """All averages, by what checkpoints call them."""
        return {"ema": self.ema} | {f"profile{i}": one for i, one in enumerate(self.profiles.values())}


def save_checkpoint(folder: Path, state: TrainingState, progress: Progress, keep: int, world: World = ALONE) -> Path:
    """Write ``folder/IMAGES.safetensors`` and delete all but the newest ``keep``, and anchors that none of them can
    come back to. Several processes call it together; the first one writes.

    Raises:
        UserError: the state is not finite, or the disk is full.
    """
    path = folder / f"{progress.seen:012d}{_SUFFIX}"
    tensors = on_first(_tensors(state), world)

    def write() -> None:
        _write(path, tensors, progress)
        _prune(folder, keep)

    world.lead(write)
    return path


def save_return(folder: Path, state: TrainingState, progress: Progress, keep: int, world: World = ALONE) -> None:
    """:func:`save_checkpoint` of a run that was taken back, and delete what was saved of the way that it has left."""
    tensors = on_first(_tensors(state), world)

    def write() -> None:
        _write(folder / f"{progress.seen:012d}{_SUFFIX}", tensors, progress)
        for path in (*checkpoints(folder), *anchors(folder)):
            if _images(path) > progress.seen:
                path.unlink(missing_ok=True)
        _prune(folder, keep)

    world.lead(write)


def save_anchor(folder: Path, state: TrainingState, progress: Progress, world: World = ALONE) -> Path:
    """Write ``folder/anchor-IMAGES.safetensors``; raises as :func:`save_checkpoint` does."""
    path = folder / f"{_ANCHOR}{progress.seen:012d}{_SUFFIX}"
    tensors = on_first(_tensors(state), world)
    world.lead(lambda: _write(path, tensors, progress))
    return path


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a folder, oldest first."""
    return _found(folder, "")


def anchors(folder: Path) -> list[Path]:
    """All anchors of a folder, oldest first."""
    return _found(folder, _ANCHOR)


def load_checkpoint(folder: Path, state: TrainingState) -> Progress:
    """Put the newest readable checkpoint into ``state``; nothing happens if there is none.

    Returns:
        Where the run stands.

    Raises:
        UserError: there are checkpoints, and none can be read.
    """
    return _load(checkpoints(folder), state) or Progress()


def load_anchor(folder: Path, state: TrainingState, most: int) -> Progress | None:
    """Put the newest readable anchor of at most so many images into ``state``; None if there is none."""
    return _load([one for one in anchors(folder) if _images(one) <= most], state)


def fresh_state(state: TrainingState, objective: nn.Module) -> None:
    """Put a run's beginning into ``state``: the weights of ``objective``, averages that have seen nothing else, and
    optimisers that have done nothing."""
    tensors = {f"objective.{name}": value for name, value in objective.state_dict().items()}
    for prefix, average in state.averages.items():
        for name in average.modules:
            part = objective.get_submodule(name).state_dict()
            tensors |= {f"{prefix}.{name}.{key}": value for key, value in part.items()}
    _restore(state, tensors, "the beginning of the run")


def _prune(folder: Path, keep: int) -> None:
    kept = checkpoints(folder)
    for old in kept[:-keep]:
        old.unlink(missing_ok=True)
    oldest = _images(kept[-keep:][0])
    # The run goes back to the last anchor before the first of its faults, which may lie behind the last one.
    for old in [one for one in anchors(folder) if _images(one) <= oldest][:-2]:
        old.unlink(missing_ok=True)


def _images(path: Path) -> int:
    return int(path.stem.removeprefix(_ANCHOR))


def _found(folder: Path, prefix: str) -> list[Path]:
    found = folder.glob(f"{prefix}*{_SUFFIX}") if folder.is_dir() else ()
    return sorted(path for path in found if path.stem.removeprefix(prefix).isdigit())


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    tensors = {f"objective.{name}": value for name, value in state.objective.state_dict().items()}
    for prefix, average in state.averages.items():
        tensors |= {f"{prefix}.{name}": value for name, value in average.modules.state_dict().items()}
    for name, optimizer in state.optimizers.items():
        tensors |= {f"optimizer.{name}.{key}": value for key, value in _optimizer_tensors(optimizer).items()}
    return tensors


def _write(path: Path, tensors: dict[str, Tensor], progress: Progress) -> None:
    if not bool(finite(tensors.values())):
        broken = [name for name, value in tensors.items() if not bool(finite([value]))]
        raise UserError(
            f"after {progress.seen:,} images {', '.join(broken[:3])} is not finite and was not saved; earlier "
            "checkpoints are sound: train again with a lower --optimizer.lr or --training.precision float32"
        )
    save_tensors(path, tensors, about=asdict(progress))


def _load(found: list[Path], state: TrainingState) -> Progress | None:
    """From the last of these that can be read."""
    damage: UserError | None = None
    for path in reversed(found):
        try:
            tensors, about = load_tensors(path)
        except UserError as error:
            damage = error
            continue
        _restore(state, tensors, str(path))
        return Progress(**about | {"skipped": tuple(about.get("skipped", ()))})
    if damage is not None:
        raise damage
    return None


def _restore(state: TrainingState, tensors: dict[str, Tensor], where: str) -> None:
    fill(state.objective, _below(tensors, "objective."), where)
    for prefix, average in state.averages.items():
        fill(average.modules, _below(tensors, f"{prefix}."), where)
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
    optimizer.state.clear()
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        if int(number) >= len(parameters):
            raise UserError(f"{where} does not fit the recipe: it holds state of more parameters than the model has")
        parameter = parameters[int(number)]
        state: dict[str, Any] = optimizer.state[parameter]
        if value.shape == parameter.shape:
            # As the optimiser itself lays it out: like the parameter, which may be channels_last.
            state[key] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
            put(state[key], value)
        else:
            state[key] = value.clone().to(parameter.device)  # also the count of steps: fused optimisers want it there
