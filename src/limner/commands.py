"""The commands, as plain functions: what they are given is typed, what they return is both lines and plain values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from limner.contracts import DataStats, ImageSpec, Model, Precision
from limner.data import DataConfig
from limner.data.levels import Pixels
from limner.distributed import join
from limner.errors import UserError, within
from limner.features.extractor import slices
from limner.gallery import in_turn, put, refuse_strangers
from limner.recipes import RECIPES, SIZES, AnyRecipe, Size, recipe
from limner.recipes import resume as resume_run
from limner.recipes import train as train_run
from limner.sampling import condition_for, labels_for
from limner.sampling import sample as draw
from limner.sampling.draw import BATCH, MOST, together
from limner.training.averaging import write_average
from limner.training.costs import flops_per_image
from limner.training.folders import refuse_taken
from limner.training.grids import grid, save_png
from limner.training.run import RunResult, point_to
from limner.training.snapshot import load

#: What pictures are drawn into, by the end of its name.
DRAWN = {".png": "a .png for a grid", "": "a folder for single files"}
#: Most pictures in one grid file.
_GRID = 4_096


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

    settings = RECIPES[name](size)
    with torch.device("meta"):  # shapes are enough to count
        spec = settings.learned(ImageSpec(3, (32, 32), "RGB"))
        lesson = settings.lesson(spec, tuple("0123456789"), DataStats((0.0, 0.0, 0.0), 0.5))
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


def resume(folder: Path, source: str = "") -> Outcome:
    """Take an interrupted run up again; ``source`` is where its pictures are now, if not where they were."""
    if source:
        point_to(folder, source)
    return _trained(resume_run(folder))


def _trained(result: RunResult) -> Outcome:
    spent = result.seconds
    lines = [
        f"{result.images:,} images in {sum(spent.values()):.0f} s "
        f"({', '.join(f'{name} {value:.0f} s' for name, value in spent.items())})",
        *measure_lines(result.measures),
        *result.advice,
        f"draw more:  limner sample {result.folder} -n 64 --out grid.png"
        if result.draws
        else f"see more:   limner reconstruct {result.folder} --reference SOURCE",
        f"report:     {result.report}",
    ]
    values = {
        "run": str(result.folder),
        "report": str(result.report),
        "images": result.images,
        "seconds": result.seconds,
        "measures": result.measures,
        "advice": list(result.advice),
    }
    return Outcome(tuple(lines), values)


def measure_lines(rows: dict[str, dict[str, Any]]) -> list[str]:
    width = max(map(len, rows), default=0)
    arrows = {"lower": "lower is better", "higher": "higher is better"}
    out = []
    for name, row in rows.items():
        real = "" if row["real"] is None else f", real pictures {row['real']:.3g}"
        out.append(
            f"  {name:<{width}}  {row['value']:8.4g}  [{row['low']:.4g}, {row['high']:.4g}]{real} "
            f"({arrows[row['better']]})"
        )
    return out


def ema(run: Path, width: float, out: Path | None) -> Outcome:
    """Make a snapshot with another average of the weights than the run's own."""
    folder = out or run / f"snapshot-ema-{width:g}"
    world = join()
    told: dict[str, Any] = world.lead(lambda: write_average(run, width, folder))
    lines = (
        f"{folder}: an average of width {width:g} from {told['copies']} copies, its profile met to "
        f"{100 * told['error']:.2g} %",
        f"draw:  limner sample {folder} -n 64 --out grid.png",
    )
    return Outcome(lines, {"snapshot": str(folder), "width": width, **told})


def sample(
    model: Path,
    n: int,
    seed: int,
    label: str | None,
    prompt: str | None,
    steps: int | None,
    solver: str | None,
    guidance: float | None,
    truncation: float | None,
    cut: float | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    guide: Path | None,
    size: tuple[int, int] | None,
    memory: float | None,
    precision: Precision,
    out: Path,
    overwrite: bool,
) -> Outcome:
    """Draw pictures from a model. Several processes share the drawing, and the first one writes: single files as they
    are drawn, so that whatever ends the drawing leaves those that there are."""
    within("n", n, 1, MOST)
    world = join()
    world.lead(lambda: may_write(out, overwrite))
    loaded = load(model, device=world.device)
    if out.suffix and n > _GRID:
        raise UserError(f"{n:,} pictures are too many for one grid; give --out a folder for single files")
    worse = None if guide is None else load(guide, device=world.device)
    told = condition_for(loaded, 1, label, prompt)
    names = class_names(loaded, n, label)
    whole = in_turn(names[: len(loaded.labels) if label is None else 1], n)
    if not out.suffix:
        world.lead(lambda: refuse_strangers(out, whole))
    files: list[str] = []
    drawn: list[Pixels] = []
    chosen = together(loaded, None, told, guidance=guidance, batch=min(BATCH, n), memory=memory, world=world)
    # As many at a time as all processes draw together, so that they share batches with the same ones as in one draw.
    for part in slices(n, world.size * chosen.batch, "drawing" if world.first else None):
        images = draw(
            loaded,
            part.stop - part.start,
            first=part.start,
            label=label,
            prompt=prompt,
            seed=seed,
            steps=steps,
            solver=solver,
            guidance=guidance,
            truncation=truncation,
            cut=cut,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            guide=worse,
            size=size,
            batch=chosen.batch,
            memory=None if chosen.kept is None else math.inf,  # it was looked at above
            precision=precision,
            world=world,
        )
        if out.suffix:
            drawn.append(images)
        else:
            so_far = replace(whole, pictures=part.stop)
            files += world.lead(lambda images=images, so_far=so_far: put(images, so_far, out))  # type: ignore[misc]
    if out.suffix:
        world.lead(lambda: save_png(grid(np.concatenate(drawn)), out))
        files = [str(out)]
    what = f"{len(files):,} files in {out}" if len(files) != 1 else str(out)
    values = {"files": files, "n": n, "seed": seed, "labels": names} | _asked(loaded, prompt)
    lines = [f"{n:,} pictures: {what}", *_cut(loaded, prompt)]
    if chosen.kept is not None:
        kept = chosen.kept.of(chosen.batch)
        lines.append(f"  {chosen.batch} at a time, of which {kept / 2**20:,.1f} MiB were kept while they were written")
        values |= {"batch": chosen.batch, "kept_bytes": kept}
    return Outcome(tuple(lines), values)


def _cut(model: Model, prompt: str | None) -> list[str]:
    """What is to be said of a prompt that is too long."""
    if model.text is None or prompt is None or not model.text.too_long([prompt]):
        return []
    return [f"  the model hears the first {model.text.length} tokens of the prompt: the rest is cut"]


def _asked(model: Model, prompt: str | None) -> dict[str, Any]:
    """What the pictures were to show, in turn."""
    if model.text is None:
        return {}
    return {"prompts": [*model.prompts] if prompt is None else [prompt]}


def class_names(model: Model, n: int, label: str | None) -> list[str]:
    """The class of each of n samples by name, [] if there are none."""
    numbers = labels_for(model, n, label).label
    return [] if numbers is None else [model.labels[number] for number in numbers.tolist()]


def may_write(out: Path, overwrite: bool, kinds: Mapping[str, str] = DRAWN) -> None:
    """Raises a UserError where ``out`` is of no known kind (by suffix, "" is a folder), or would replace something."""
    if out.suffix.lower() not in kinds:
        raise UserError(f"--out {out.name}: give {', or '.join(kinds.values())}")
    if not overwrite:
        refuse_taken(out, ", or add --overwrite")
