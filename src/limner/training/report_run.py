"""What a report finds in a run's folder, and how it writes values down."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.config import read_json
from limner.errors import UserError
from limner.training.folders import RECIPE
from limner.training.tracking import METRICS, records


@dataclass(frozen=True)
class Run:
    """What was found in the folder; everything but the recipe may be missing, and is then empty.

    Attributes:
        folder: of the run.
        recipe: the content of ``recipe.json``.
        done: the content of ``done.json``, empty while the run has not ended.
        rows: lines of the table of measures.
        notes: sentences to show beside them.
        records: of ``metrics.jsonl``.
    """

    folder: Path
    recipe: Mapping[str, Any]
    done: Mapping[str, Any]
    rows: list[Mapping[str, Any]]
    notes: list[str]
    records: list[dict[str, Any]]

    @property
    def data(self) -> Mapping[str, Any]:
        return mapping(self.recipe.get("data"))

    @property
    def draws(self) -> bool:
        """Whether the model draws pictures of its own, which a codec does not."""
        return self.recipe.get("draws") is not False

    @property
    def seconds(self) -> Mapping[str, float]:
        """By part of the run."""
        return mapping(self.done.get("seconds"))


def read_run(folder: Path) -> Run:
    """Gather what the folder holds.

    Raises:
        UserError: it has no readable recipe.
    """
    recipe = read_json(folder / RECIPE)
    if not isinstance(recipe, Mapping):
        raise UserError(f"{folder / RECIPE} is damaged: it holds no recipe")
    measures = _optional(folder / "measures.json")
    return Run(
        folder=folder,
        recipe=recipe,
        done=_optional(folder / "done.json"),
        rows=[row for row in measures.get("rows") or [] if isinstance(row, Mapping) and "name" in row],
        notes=[str(note) for note in measures.get("notes") or []],
        records=records(folder / METRICS),
    )


def _optional(path: Path) -> Mapping[str, Any]:
    try:
        return mapping(read_json(path))
    except UserError:  # missing or cut off: the page does without
        return {}


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def escaped(value: object) -> str:
    """Text that is safe between tags and in attributes."""
    return html.escape(str(value))


def number(value: object, form: str = ".4g") -> str:
    """A number in a format, or a dash where there is none."""
    return format(value, form) if isinstance(value, (int, float)) else "–"


def duration(seconds: float) -> str:
    """As a person says it: "41 s", "3 min 27 s", "2 h 5 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
