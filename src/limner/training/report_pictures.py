"""The report's pictures: the finished model's samples, samples over time, samples beside their nearest neighbours."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from limner.data.levels import Pixels
from limner.training.grids import grid
from limner.training.report_run import Run, escaped, mapping

if TYPE_CHECKING:
    from PIL.Image import Image

#: Most points in time whose samples are embedded, and most bytes of their files: large pictures show fewer points.
_STEPS, _BYTES = 16, 24 * 2**20
#: Prompts that are told beside samples.
_TOLD = 8
#: Pictures up to this side are shown with their pixels sharp.
SMALL = 96


def final(run: Run) -> str:
    """The samples of the finished model, large."""
    path = run.folder / "samples" / "final.png"
    if not path.exists():
        return ""
    classes = run.data.get("labels") and mapping(run.recipe.get("config")).get("conditional", True)
    note = "The classes in turn." if classes else "Drawn from consecutive numbers, none left out."
    prompts = run.recipe.get("prompts")
    if isinstance(prompts, list) and prompts:
        told = "”, “".join(escaped(str(one)) for one in prompts[:_TOLD])
        note = f"For captions of the training pictures in turn: “{told}”{' …' if len(prompts) > _TOLD else '.'}"
    image = _embedded(path, "samples of the finished model", sharp=_sharp(run))
    return f'<figure class="hero">{image}<figcaption>Samples of the finished model. {note}</figcaption></figure>'


def over_time(run: Run) -> str:
    """The same seeds at points in time, averaged and raw weights side by side; a slider moves through them."""
    folder = run.folder / "samples"
    shown = [(f"after {int(path.stem):,} images", path, _raw(path)) for path in _chosen(folder)]
    if (folder / "final.png").exists():
        shown.append(("at the end", folder / "final.png", folder / "final_raw.png"))
    if not shown:
        return ""
    blocks = []
    for when, path, raw in shown:
        pair = [(path, "averaged weights")] + ([(raw, "raw weights")] if raw.exists() else [])
        pictures = "".join(
            f"<figure>{_embedded(one, f'samples {when}, {what}', sharp=_sharp(run))}"
            f"<figcaption>{when[:1].upper()}{when[1:]}, {what}</figcaption></figure>"
            for one, what in pair
        )
        blocks.append(f'<div class="step" data-when="{when}"><div class="pair">{pictures}</div></div>')
    last = len(shown) - 1
    slider = f'<input hidden type="range" min="0" max="{last}" value="{last}" aria-label="point in time">'
    return (
        "<h2>Samples over time</h2><p>The same random numbers each time; only the weights change.</p>"
        f"<div data-steps>{slider if last else ''}{''.join(blocks)}</div>"
    )


def neighbours(run: Run) -> str:
    """A few samples, each beside the training pictures nearest to it."""
    found = _arrays(run.folder / "neighbours.npz", ("samples", "nearest", "distance", "near"))
    if found is None:
        return ""
    blocks = []
    for sample, nearest, distance, near in zip(*found, strict=True):
        pictures = picture(sample, "sample") + "".join(picture(one, "training picture") for one in nearest)
        told = f"distance {distance[0]:.2f}" + (": a near copy" if near else "")
        blocks.append(
            f'<figure class="{"near" if near else "apart"}"><div class="row pixels">{pictures}</div>'
            f"<figcaption>{told}</figcaption></figure>"
        )
    return (
        "<h2>Is it new?</h2><p>Each sample, framed, beside the training pictures nearest to it in pixels"
        f"{escaped(searched(run))}.</p>"
        f'<div class="neighbours">{"".join(blocks)}</div>'
    )


def searched(run: Run) -> str:
    """Among how many training pictures copies were looked for, where not among all of them; else ""."""
    row = next((row for row in run.rows if str(row["name"]).startswith("near_copies_") and "searched" in row), {})
    some, held = row.get("searched"), row.get("of")
    if not (isinstance(some, int) and isinstance(held, int)):
        return ""
    return f", looked for among {some:,} of {held:,}"


def _chosen(folder: Path) -> list[Path]:
    """Grids of averaged weights in order of time; the first and the last, and as many between as fit."""
    steps = [path for path in folder.glob("*.png") if path.stem.isdecimal()] if folder.is_dir() else []
    steps.sort(key=lambda path: int(path.stem))
    if not steps:
        return []
    largest = max(sum(one.stat().st_size for one in (path, _raw(path)) if one.exists()) for path in steps)
    count = min(len(steps), max(2, min(_STEPS, _BYTES // max(largest, 1))))
    return [steps[round(i * (len(steps) - 1) / max(count - 1, 1))] for i in range(count)]


def _raw(path: Path) -> Path:
    return path.with_name(f"{path.stem}_raw.png")


def _sharp(run: Run) -> bool:
    return max(map(int, run.data.get("size") or [0])) <= SMALL


def _embedded(path: Path, alt: str, *, sharp: bool) -> str:
    kind = ' class="pixels"' if sharp else ""
    return f'<img{kind} alt="{escaped(alt)}" src="{_uri(path.read_bytes())}">'


def picture(image: Pixels, alt: str) -> str:
    """An image element that holds its picture (H, W, C)."""
    return inline(grid(image[None], scale=1, gap=0), alt)


def inline(image: Image, alt: str) -> str:
    """An image element that holds its picture."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return f'<img alt="{escaped(alt)}" src="{_uri(file.getvalue())}">'


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _arrays(path: Path, names: Iterable[str]) -> list[npt.NDArray[Any]] | None:
    """The arrays of these names, of one length; None where the file is missing or damaged: the page does without."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = [archive[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error, RuntimeError):
        return None
    return found if all(array.ndim for array in found) and len({len(array) for array in found}) == 1 else None
