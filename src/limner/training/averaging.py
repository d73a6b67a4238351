"""A snapshot whose weights are averaged as widely as one likes, from what a run has put aside."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from limner.config import read_json
from limner.errors import UserError
from limner.files import write_json, write_text
from limner.tensors import load_tensors, save_tensors
from limner.training.folders import refuse_taken
from limner.training.profiles import FOLDER, reconstructed
from limner.training.snapshot import CARD, CODEC, CONFIG, TEXT, WEIGHTS

#: A profile further from the one asked for than this, as a share of its norm, is another one.
_FARTHEST = 0.2


def write_average(run: Path, width: float, out: Path) -> dict[str, Any]:
    """Write a snapshot of a finished run with an average of the given width (EDM2's sigma_rel).

    Returns:
        How many copies it was made of, and how far its profile is from the one asked for, as a share of its norm.

    Raises:
        UserError: the run has not ended or has put nothing aside, the width cannot be reached, or something is at
            ``out``.
    """
    refuse_taken(out)
    own = run / "snapshot"
    if not (own / CONFIG).is_file():
        raise UserError(f"{run} is no finished run: it has no snapshot; finish it with: limner train --resume {run}")
    tensors, _ = load_tensors(own / WEIGHTS)
    made = reconstructed(run / FOLDER, width, tensors.keys())
    if made.error > _FARTHEST:
        raise UserError(
            f"an average of width {width:g} cannot be made of what {run / FOLDER} holds: its profile would be "
            f"{100 * made.error:.0f} % off; try a width nearer to those that were kept"
        )
    save_tensors(out / WEIGHTS, {**tensors, **made.parameters})
    write_text(
        out / CARD,
        (own / CARD).read_text(encoding="utf-8")
        + f"\nIts weights are a power-function average of width {width:g}, made after the training from {made.copies} "
        f"copies; the profile is met to {100 * made.error:.2g} %.\n",
    )
    if (own / CODEC).is_dir():
        shutil.copytree(own / CODEC, out / CODEC)
    if (own / TEXT).is_file():
        write_text(out / TEXT, (own / TEXT).read_text(encoding="utf-8"))
    write_json(out / CONFIG, read_json(own / CONFIG))
    return {"copies": made.copies, "error": made.error}
