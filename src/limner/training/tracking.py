"""What a run tells while it goes: ``metrics.jsonl``, TensorBoard, a progress bar."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.files import write_text

METRICS = "metrics.jsonl"


class Tracker:
    """Writes scalars, measures and pictures of a run. A line a record; TensorBoard counts images seen as its step.

    Args:
        folder: of the run; None tells nobody, as all processes but the first do.
        seen: images seen so far: what an earlier, interrupted sitting wrote beyond them is dropped.
    """

    def __init__(self, folder: Path | None, seen: int) -> None:
        self._path: Path | None = None
        if folder is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / METRICS
        _keep_until(self._path, seen)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=seen + 1 if seen else None)

    def scalars(self, seen: int, seconds: float, values: Mapping[str, float]) -> None:
        if self._path is None:
            return
        self._line(self._path, {"images": seen, "seconds": round(seconds, 3), **values})
        for name, value in values.items():
            self._board.add_scalar(f"train/{name}", value, seen)

    def measures(self, seen: int, seconds: float, rows: Mapping[str, dict[str, Any]]) -> None:
        if self._path is None:
            return
        self._line(self._path, {"images": seen, "seconds": round(seconds, 3), "measures": rows})
        for name, row in rows.items():
            self._board.add_scalar(f"measures/{name}", row["value"], seen)

    def pictures(self, seen: int, name: str, picture: npt.NDArray[np.uint8]) -> None:
        """One picture (H, W, C)."""
        if self._path is not None:
            self._board.add_image(name, picture, seen, dataformats="HWC")

    def close(self) -> None:
        if self._path is not None:
            self._board.close()

    @staticmethod
    def _line(path: Path, record: Mapping[str, Any]) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def records(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; one that was cut off by a kill is left out."""
    out = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("images"), int):
            out.append(record)
    return out


def _keep_until(path: Path, seen: int) -> None:
    if path.exists():
        kept = [record for record in records(path) if record["images"] <= seen]
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))


class Bar:
    """A progress bar on standard error; nothing but a line now and then where that is no terminal.

    Args:
        seen: images seen so far.
        show: whether to show anything.
    """

    def __init__(self, seen: int, *, show: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._total: int | None = None
        self._told = seen
        self._console = Console(stderr=True)
        self._show = show
        self._bar = Progress(
            TextColumn("[bold]training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} images/s"),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]}"),
            console=self._console,
            disable=not (show and self._console.is_terminal),
        )
        self._task = self._bar.add_task("train", total=None, completed=seen, rate="-", loss="-")

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def length(self, images: int) -> None:
        """The run's length; the bar has no end before it is told."""
        self._total = images
        self._bar.update(self._task, total=images)

    def update(self, seen: int, rate: float, loss: float) -> None:
        self._bar.update(self._task, completed=seen, rate=f"{rate:,.0f}", loss=f"{loss:.4f}")
        if self._total is None or self._console.is_terminal or not self._show:
            return
        if (seen - self._told) * 10 >= self._total:
            self._told = seen
            print(f"{seen:,} of {self._total:,} images, {rate:,.0f} images/s, loss {loss:.4f}", file=sys.stderr)

    def say(self, line: str) -> None:
        """A line above the bar; nothing for an empty one."""
        if self._show and line:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
