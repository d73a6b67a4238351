"""The comparison's pictures: a row of every contender beside each other's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from limner.comparison.side_by_side import SideBySide
from limner.metrics.choice import choose
from limner.training.grids import grid
from limner.training.report_pictures import SMALL, inline
from limner.training.report_run import escaped

Images = npt.NDArray[np.uint8]
#: Rows, pictures in each, and pixels across one: large pictures stand in shorter rows.
_ROWS, _ACROSS, _PIXELS = 12, 8, 512
#: Real pictures among which those of a class are looked for.
_REAL = 4_000


@dataclass(frozen=True, eq=False)
class Column:
    """Pictures under a heading, with their classes, () where there are none."""

    name: str
    images: Images
    labels: Sequence[str]

    def row(self, number: int, label: str | None, many: int) -> Images:
        """The first pictures of a class; consecutive ones where there are no classes."""
        if label is None or not self.labels:
            return self.images[number * many :][:many]
        return self.images[[i for i, own in enumerate(self.labels) if own == label][:many]]


def pictures(result: SideBySide) -> str:
    """A row a class, where all that have classes share some, or rows of consecutive numbers; real pictures first."""
    columns = [_real(result), *(Column(one.name, one.images, one.labels) for one in result.contenders)]
    labels = _shared([one.labels for one in result.contenders if one.labels])
    rows: list[str | None] = list(labels[:_ROWS]) if labels else [None] * _ROWS
    side = max(result.reference.spec.size)
    many = max(1, min(_ACROSS, _PIXELS // side))
    body = "".join(_row(columns, number, label, many) for number, label in enumerate(rows))
    head = "".join(f'<th scope="col">{escaped(column.name)}</th>' for column in columns)
    what = "A class a row" if labels else "Consecutive numbers"
    some = f", the first {_ROWS} of {len(labels)} classes" if len(labels) > _ROWS else ""
    in_step = len({one.labels for one in result.contenders if one.draws}) == 1 or not labels
    same = "What stands in one place of a row was drawn from the same random numbers by every generator."
    told = f" {same}" if result.same_numbers and in_step else ""
    return (
        f"<h2>Pictures</h2><p>{what}{some}; none left out.{told}</p>"
        f'<div class="scroll"><table class="beside{" pixels" * (side <= SMALL)}">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _shared(labels: Sequence[Sequence[str]]) -> list[str]:
    """The classes that all have, in the order of the first."""
    return [name for name in dict.fromkeys(labels[0]) if all(name in own for own in labels)] if labels else []


def _real(result: SideBySide) -> Column:
    data = result.reference
    which = choose(len(data), _REAL, result.seed, "shown").numpy()
    labels: list[str] = []
    if data.label is not None and data.labels:
        labels = [data.labels[number] for number in data.label[which].tolist()]
    return Column("real pictures", np.asarray(data.images[which]), labels)


def _row(columns: Sequence[Column], number: int, label: str | None, many: int) -> str:
    found = [column.row(number, label, many) for column in columns]
    if not any(map(len, found)):
        return ""
    name = str(number + 1) if label is None else label
    cells = "".join(
        f"<td>{inline(grid(images, columns=many), f'{column.name}: {name}') if len(images) else '–'}</td>"
        for column, images in zip(columns, found, strict=True)
    )
    return f'<tr><th scope="row">{escaped(name)}</th>{cells}</tr>'
