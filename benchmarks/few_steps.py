"""Two jumps against thirty-two steps, for the same time of training.

    LIMNER_MIRROR=DIR python benchmarks/few_steps.py --data mnist --extractor lenet --minutes 4

Three runs of limner's own recipes: ``flow`` for the whole time, ``flow`` for half of it, and ``consistency`` taught by
the latter for the other half. A machine's pace may double from one minute to the next, so time is counted in images: as
many as ``flow`` shows in so many minutes at the pace of the beginning, and as many fewer of ``consistency`` as it is
slower, both measured in turns of a few seconds. Judged are --count pictures of each, the whole run's drawn by --solvers
in 32 steps and by its own defaults. What is in --out is kept.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

import limner
from limner.contracts import Model, RefineConfig
from limner.data import Dataset
from limner.data.cache import cache_root
from limner.distributed import ALONE
from limner.files import write_json
from limner.metrics import evaluate
from limner.recipes import AnyRecipe, FlowMapRecipe, Size, recipe, size_for
from limner.sampling import evaluations
from limner.training.grids import grid, save_png
from limner.training.opening import batches_of, lesson_of
from limner.training.trainer import Trainer
from limner.training.trial import tried
from training_speed import Training

METRICS = ("fd", "precision", "recall", "coverage")
STEPS = 32
DRAWN = 20_000


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        data: the pictures.
        extractor: what looks at the pictures.
        minutes: of training, on each side.
        size: of the networks; auto is what a user gets for so many minutes.
        solvers: that the whole run is drawn by.
        count: pictures judged.
        seed: of the trainings.
        seconds: of a turn, where paces are compared.
        turns: of each side.
        out: where runs and finished cells are kept.
    """

    data: str = "mnist"
    extractor: str = "lenet"
    minutes: float = 4.0
    size: Size | str = "auto"
    solvers: tuple[str, ...] = ("heun", "dpmpp_2m", "dpmpp_2m_sde")
    count: int = 5_000
    seed: int = 1
    seconds: float = 4.0
    turns: int = 5
    out: Path = Path("build/few_steps")


def trainer(settings: AnyRecipe, dataset: Dataset) -> Training:
    lesson, batches = lesson_of(settings, dataset, ALONE), batches_of(settings, dataset, ALONE, labelled=True)
    chosen = tried(lesson.objective, settings.training, batches, seed=0).precision
    one = Trainer(lesson.objective, settings.training, batches, images=10**9, precision=chosen, seed=0)

    def go(seconds: float) -> float:
        begun, first = time.monotonic(), one.progress.seen
        while time.monotonic() - begun < seconds:
            one.iterate()
        return (one.progress.seen - first) / (time.monotonic() - begun)

    return go


def paces(sides: list[Training], seconds: float, turns: int) -> list[list[float]]:
    """Images/s, a list for each turn."""
    for one in sides:
        one(seconds)
    return [[one(seconds) for one in sides] for _ in range(turns)]


def drawing(run: Path) -> tuple[Model, RefineConfig]:
    """What a run has learned, and how it draws."""
    model = limner.load(run)
    assert isinstance(model.defaults, RefineConfig)
    return model, model.defaults


def main(args: Args) -> None:
    limner.allocator.keep_freed_memory()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "cells.json"
    cells: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    data = limner.open_dataset(args.data, progress=False)
    extractor = limner.load_extractor(args.extractor, shape=data.images.shape[1:])
    size = size_for(args.minutes) if args.size == "auto" else args.size
    name = f"{args.data}-{size}-{args.minutes:g}min-{args.seed}"
    flow, few = (replace(recipe(one, size), seed=args.seed) for one in ("flow", "consistency"))
    assert isinstance(few, FlowMapRecipe)

    def trained(settings: AnyRecipe, what: str, images: int) -> Path:
        run = args.out / f"{name}-{what}"
        if not (run / "snapshot").exists():
            limner.train(replace(settings, watch=replace(settings.watch, judge=0)), args.data, out=run, images=images)
        return run

    def keep(key: str, value: Any) -> Any:
        cells[f"{name} {key}"] = value
        write_json(path, cells)
        print(f"{name} {key}: {json.dumps(value)}", file=sys.stderr, flush=True)
        return value

    def judged(key: str, model: Model, config: RefineConfig) -> None:
        if f"{name} {key}" in cells:
            return
        drawn = limner.sample(model, args.count, seed=DRAWN, config=config)
        save_png(grid(drawn[:50], columns=10), args.out / f"{name} {key}.png")
        report = evaluate(drawn, data, extractor=extractor, metrics=METRICS, cache=cache_root(None) / "measures")
        told = {metric: report.value(metric) for metric in METRICS}
        keep(key, told | {"steps": config.steps, "evaluations": evaluations(config)})

    def turns(sides: list[Training]) -> list[list[float]]:
        return paces(sides, args.seconds, args.turns)

    known = cells.get(f"{name} images")
    images = known or keep(
        "images", round(args.minutes * 60 * statistics.median(p for (p,) in turns([trainer(flow, data)])))
    )
    whole, teacher = trained(flow, "whole", images), trained(flow, "teacher", images // 2)
    few = replace(few, teacher=str(teacher))
    ratio = cells.get(f"{name} ratio") or keep(
        "ratio", statistics.median(b / a for a, b in turns([trainer(flow, data), trainer(few, data)]))
    )
    student = trained(few, "student", round(images / 2 * ratio))
    model, defaults = drawing(whole)
    judged("flow, defaults", model, defaults)
    for solver in args.solvers:
        judged(f"flow, {solver}", model, replace(defaults, solver=solver, steps=STEPS))
    model, defaults = drawing(student)
    for steps in (1, 2, 4):
        judged(f"consistency, {steps} jumps", model, replace(defaults, steps=steps))
    table(cells, name)


def table(cells: dict[str, Any], name: str) -> None:
    print(
        f"{name}: {cells[f'{name} images']:,} images of flow, of consistency {cells[f'{name} ratio']:.2f} x the pace\n"
    )
    print(f"| what | steps | evaluations | {' | '.join(METRICS)} |")
    print("|---" * (3 + len(METRICS)) + "|")
    for key, one in cells.items():
        if key.startswith(f"{name} ") and isinstance(one, dict):
            scores = " | ".join(f"{one[metric]:.3f}" for metric in METRICS)
            print(f"| {key.removeprefix(f'{name} ')} | {one['steps']} | {one['evaluations']} | {scores} |")


if __name__ == "__main__":
    main(tyro.cli(Args))
