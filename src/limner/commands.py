"""The commands, as plain functions: what they are given is typed, what they return is both lines and plain values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.contracts import DataStats, ImageSpec, Model, Precision
from limner.data import DataConfig
from limner.data.levels import Pixels
from limner.distributed import join
from limner.errors import UserError
from limner.recipes import RECIPES, SIZES, AnyRecipe, Size, recipe
from limner.recipes import resume as resume_run
from limner.recipes import train as train_run
from limner.sampling import sample as draw
from limner.training.averaging import write_average
from limner.training.costs import flops_per_image
from limner.training.folders import refuse_taken
from limner.training.grids import grid, save_picture, save_png
from limner.training.run import RunResult
from limner.training.snapshot import load

#: Most pictures in one grid file.
_GRID = 4_096
#: What :func:`_write_files` names pictures and the folders of their classes.
_PICTURE, _CLASS = re.compile(r"[0-9]{6,7}\.png"), re.compile(r"[a-z0-9_%-]+")


@dataclass(frozen=True)
class Outcome:
    """What a command tells: lines for a person, plain values for a program."""

    lines: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)


def recipes() -> Outcome:
    """What can be trained: a line each."""
    about = {name: _about(name) for name in RECIPES}
    width = max(map(len, about))
    lines = (f"{name:<{width}}  {text}" for name, text in about.items())
    hint = "costs of one: limner recipes RECIPE; train one with: limner train RECIPE --data SOURCE --minutes 5"
    return Outcome((*lines, hint), {"recipes": {name: {"about": text} for name, text in about.items()}})


def recipe_costs(name: str) -> Outcome:
    """A recipe with its networks' sizes and costs."""
    recipe(name)  # which may be unknown
    sizes = {size: _cost(name, size) for size in SIZES}
    lines = (
        f"  {size:<6} {cost['parameters'] / 1e6:8.2f} M parameters, "
        f"{cost['flops_per_image'] / 1e9:9.3f} GFLOPs a training image of 32x32 RGB"
        for size, cost in sizes.items()
    )
    told = {name: {"about": _about(name), "sizes": sizes}}
    return Outcome((f"{name}: {_about(name)}", *lines), {"recipes": told})


def _about(name: str) -> str:
    return (RECIPES[name].__doc__ or "").strip().splitlines()[0]


def _cost(name: str, size: Size) -> dict[str, float]:
    import torch

    spec = ImageSpec(3, (32, 32), "RGB")
    with torch.device("meta"):  # shapes are enough to count
        lesson = RECIPES[name](size).lesson(spec, tuple("0123456789"), DataStats((0.0, 0.0, 0.0), 0.5))
    parameters = sum(p.numel() for p in lesson.model.net.parameters())
    return {"parameters": parameters, "flops_per_image": flops_per_image(lesson.objective, spec, labelled=True)}


def train(
    settings: AnyRecipe,
    data: DataConfig,
    out: Path | Iterable[Path] | None,
    minutes: float | None,
    images: int | None,
    began: float,
) -> Outcome:
    """Train a generator on your pictures."""
    if not data.source:
        raise UserError("give the pictures with --data: a folder, a .zip, an .npz, 'mnist', 'builtin:glyphs' …")
    return _trained(train_run(settings, data, out=out, minutes=minutes, images=images, began=began))


def resume(folder: Path) -> Outcome:
    """Take an interrupted run up again."""
    return _trained(resume_run(folder))


def _trained(result: RunResult) -> Outcome:
    spent = result.seconds
    lines = [
        f"{result.images:,} images in {sum(spent.values()):.0f} s "
        f"({', '.join(f'{name} {value:.0f} s' for name, value in spent.items())})",
        *measure_lines(result.measures),
        f"draw more:  limner sample {result.folder} -n 64 --out grid.png",
        f"report:     {result.report}",
    ]
    values = {
        "run": str(result.folder),
        "report": str(result.report),
        "images": result.images,
        "seconds": result.seconds,
        "measures": result.measures,
    }
    return Outcome(tuple(lines), values)


def measure_lines(rows: dict[str, dict[str, Any]]) -> list[str]:
    width = max(map(len, rows), default=0)
    arrows = {"lower": "lower is better", "higher": "higher is better"}
    out = []
    for name, row in rows.items():
        real = "" if row["real"] is None else f", real pictures {row['real']:.3g}"
        out.append(
            f"  {name:<{width}}  {row['value']:8.3f}  [{row['low']:.3f}, {row['high']:.3f}]{real} "
            f"({arrows[row['better']]})"
        )
    return out


def ema(run: Path, half_width: float, out: Path | None) -> Outcome:
    """Make a snapshot with another average of the weights than the run's own."""
    folder = out or run / f"snapshot-ema-{half_width:g}"
    world = join()
    told: dict[str, Any] = world.lead(lambda: write_average(run, half_width, folder))
    lines = (
        f"{folder}: an average of width {half_width:g} from {told['copies']} copies, its profile met to "
        f"{100 * told['error']:.2g} %",
        f"draw:  limner sample {folder} -n 64 --out grid.png",
    )
    return Outcome(lines, {"snapshot": str(folder), "half_width": half_width, **told})


def sample(
    model: Path,
    n: int,
    seed: int,
    label: str | None,
    steps: int | None,
    solver: str | None,
    guidance: float | None,
    truncation: float | None,
    cut: float | None,
    guide: Path | None,
    size: tuple[int, int] | None,
    precision: Precision,
    out: Path,
    overwrite: bool,
) -> Outcome:
    """Draw pictures from a model. Several processes share the drawing, and the first one writes."""
    world = join()
    world.lead(lambda: _may_write(out, overwrite))
    loaded = load(model, device=world.device)
    if out.suffix and n > _GRID:
        raise UserError(f"{n:,} pictures are too many for one grid; give --out a folder for single files")
    worse = None if guide is None else load(guide, device=world.device)
    images = draw(
        loaded,
        n,
        label=label,
        seed=seed,
        steps=steps,
        solver=solver,
        guidance=guidance,
        truncation=truncation,
        cut=cut,
        guide=worse,
        size=size,
        precision=precision,
        world=world,
    )
    names = class_names(loaded, n, label)
    files = world.lead(lambda: _write_grid(images, out) if out.suffix else _write_files(images, names, out))
    what = f"{len(files):,} files in {out}" if len(files) != 1 else str(out)
    return Outcome((f"{n:,} pictures: {what}",), {"files": files, "n": n, "seed": seed, "labels": names})


def class_names(model: Model, n: int, label: str | None) -> list[str]:
    if not model.labels:
        return []
    if label is None:
        return [model.labels[i % len(model.labels)] for i in range(n)]
    return [label if label in model.labels else model.labels[int(label)]] * n


def _may_write(out: Path, overwrite: bool) -> None:
    if out.suffix and out.suffix.lower() != ".png":
        raise UserError(f"--out {out.name}: give a .png for a grid, or a folder for single files")
    if not overwrite:
        refuse_taken(out, ", or add --overwrite")


def _write_grid(images: Pixels, out: Path) -> list[str]:
    save_png(grid(images), out)
    return [str(out)]


def _write_files(images: Pixels, names: Sequence[str], out: Path) -> list[str]:
    """One file a picture, in a folder a class where there are classes: a source for ``--data`` again. An earlier draw
    makes room, for its pictures would be taken for this one's."""
    _remove_pictures(out)
    files = []
    for i, image in enumerate(images):
        folder = out / _safe(names[i]) if names else out
        path = folder / f"{i:06d}.png"
        save_picture(image, path)
        files.append(str(path))
    return files


def _remove_pictures(out: Path) -> None:
    """Delete what :func:`_write_files` has written and nothing else: its pictures, and folders of classes that are then
    empty."""
    inside = [one for one in out.iterdir() if one.is_dir() and not one.is_symlink()] if out.is_dir() else []
    for folder in (out, *(one for one in inside if _CLASS.fullmatch(one.name))):
        pictures = [one for one in folder.glob("*.png") if _PICTURE.fullmatch(one.name) and not one.is_dir()]
        for picture in pictures:
            picture.unlink()
        if pictures and folder != out and not any(folder.iterdir()):
            folder.rmdir()


def _safe(name: str) -> str:
    """A class's name as a folder's: never a path, never hidden, different for upper and lower case."""
    if name and all(c.islower() or c.isdigit() or c in "-_" for c in name) and name.isascii():
        return name
    return "".join(c if c.isascii() and (c.islower() or c.isdigit() or c in "-_") else f"%{ord(c):x}" for c in name)
