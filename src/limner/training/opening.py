"""What is settled before a run's first image: its pictures, networks, precision, and a plan where it is known."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner import random
from limner.config import from_json, to_json
from limner.contracts import Condition, Precision
from limner.data import DataConfig, Dataset, gather, open_dataset
from limner.data.augment import mirrored
from limner.data.buckets import Buckets
from limner.data.order import Rows
from limner.distributed import World
from limner.errors import UserError
from limner.files import write_json
from limner.objectives import Batch
from limner.sampling import resolve
from limner.text import Reading
from limner.training.behind import Behind, behind
from limner.training.budget import (
    Pace,
    Plan,
    measuring_seconds,
    plan_images,
    plan_minutes,
    settled,
)
from limner.training.clock import Measuring
from limner.training.config import Budget
from limner.training.describing import expectation, expected_images
from limner.training.folders import RECIPE
from limner.training.job import Lesson, Recipe
from limner.training.sharding import refuse_whole
from limner.training.trainer import Batches, Trainer
from limner.training.trial import Trial, has_bfloat16, tried
from limner.training.watching import check_watch, judgeable, measurable

VERSION = 2


@dataclass(frozen=True)
class Opened:
    """All that is settled before the first image.

    Attributes:
        folder: of the run.
        recipe: all settings.
        dataset: the pictures.
        lesson: the recipe made ready for them.
        written: what ``recipe.json`` holds.
        began: when the budget's clock started.
        show: draw progress on standard error.
        world: the processes.
        cache: of pictures and measures.
        behind: the codec before what is trained, and its latents.
        reading: how captions are read, where they are learned.
    """

    folder: Path
    recipe: Recipe
    dataset: Dataset
    lesson: Lesson
    written: dict[str, Any]
    began: float
    show: bool
    world: World
    cache: Path | None
    behind: Behind | None = None
    reading: Reading | None = None


def open_together(config: DataConfig, world: World, *, cache: Path | None = None, show: bool = True) -> Dataset:
    """:func:`limner.data.open_dataset` by several processes: the first decodes what has to be decoded."""
    opened: list[Dataset] = []
    world.lead(lambda: opened.append(open_dataset(config, cache=cache, progress=show and world.first)))
    return opened[0] if opened else open_dataset(config, cache=cache, progress=False)


def before_it(
    source: str, recipe: Recipe, dataset: Dataset, world: World, *, cache: Path | None = None, show: bool = True
) -> Behind | None:
    """The codec at ``source`` and what it makes of these pictures for the recipe; None where source is ""."""
    if not source:
        return None
    return behind(source, dataset, recipe.augment, world, writes=recipe.writes, cache=cache, show=show)


def lesson_of(
    recipe: Recipe, dataset: Dataset, world: World, behind: Behind | None = None, reading: Reading | None = None
) -> Lesson:
    """The recipe made ready for these pictures, or their latents, and captions: the same weights every time."""
    labels = dataset.labels if recipe.conditional and dataset.label is not None else ()
    seen = behind or dataset
    # A set of one flat colour has no spread; half of the range keeps the arithmetic sound.
    with random.scoped(recipe.seed, "init"):
        lesson = recipe.lesson(seen.spec, labels, replace(seen.stats, std=seen.stats.std or 0.5), reading)
    if behind is not None:
        lesson = lesson.behind(behind.config, behind.codec)
    if recipe.training.shard == "none" or world.size == 1:  # else the trainer places it, part by part
        lesson.objective.to(world.device)
    return lesson


def batches_of(
    recipe: Recipe,
    dataset: Dataset,
    world: World,
    *,
    labelled: bool,
    behind: Behind | None = None,
    reading: Reading | None = None,
) -> Batches:
    """What a training of the recipe sees of these pictures, or of their latents, with their labels or without, and with
    their captions where it reads them."""

    kept = None if behind is None else behind.kept

    def batch(first: int, count: int) -> Batch:
        samples = torch.arange(first, first + count)
        part, which = dataset.batch(recipe.seed, first, count)
        if kept is None:
            images, label = gather(part, which, augment=recipe.augment, seed=recipe.seed, samples=samples)
        else:
            flips = mirrored(recipe.seed, samples) if recipe.augment.mirrors(dataset.mirror_ok) else None
            images = kept.batch(which, flips, seed=recipe.seed, samples=samples)
            label = None if dataset.label is None else torch.from_numpy(dataset.label[which])
        cond = Condition(label if labelled else None, None if reading is None else _read(part, which, reading))
        seen = Batch(images.to(world.device), cond.to(world.device), samples.to(world.device))
        return seen if behind is None or kept is not None else behind.encoded(seen, recipe.seed)

    return batch


def _read(part: Dataset, which: Rows, reading: Reading) -> Tensor:
    """The captions of some pictures as tokens (N, L)."""
    return reading.tokenizer.encode(["" if part.captions is None else part.captions[row] for row in which.tolist()])


def same_everywhere(seen: int, world: World) -> None:
    """Raises a UserError if processes took up different checkpoints."""
    most, least = world.most(seen, -seen)
    if most != -least:
        raise UserError(
            f"the processes found checkpoints of {-least:,} and {most:,} images; put the run into a folder that all "
            "machines share"
        )


def check(recipe: Recipe, dataset: Dataset, lesson: Lesson, world: World, *, show: bool) -> None:
    """Refuse what would fail later, before anything is written.

    Raises:
        UserError: these processes cannot train this together, samples cannot be drawn so, or nothing can look at them.
    """
    if world.size > 1 and isinstance(dataset.feed, Buckets):
        raise UserError("pictures of several sizes (--data.buckets) are for one process: start it without torchrun")
    if recipe.training.shard == "full" and world.size > 1:
        refuse_whole(lesson.objective)
    resolve(lesson.model, None)
    told = world.lead(lambda: check_watch(recipe.watch, dataset))
    if told and show:
        print(told, file=sys.stderr)


def prepare(run: Opened) -> tuple[Trainer, Plan | None]:
    """The trainer at the run's beginning, and the plan, where it does not have to be measured."""
    recipe, lesson = run.recipe, run.lesson
    batches = batches_of(
        recipe,
        run.dataset,
        run.world,
        labelled=bool(lesson.model.labels),
        behind=run.behind,
        reading=run.reading,
    )
    plan = plan_of(run) if run.written["plan"] is not None else None
    precision = plan.precision if plan else _tried(run, batches).precision
    trainer = Trainer(
        lesson.objective,
        recipe.training,
        batches,
        images=plan.images if plan else None,
        precision=precision,
        seed=recipe.seed,
        world=run.world,
    )
    budget = _budget(run)
    if plan is None and budget.images is not None:
        step = trainer.images_per_iteration
        plan = _settle(run, plan_images(budget.images, step, precision, recipe.watch))
    return trainer, plan


def _tried(run: Opened, batches: Batches) -> Trial:
    """By the first process, on as many pictures as its share of a batch has; what is to be expected is then said."""
    training, world = run.recipe.training, run.world
    if training.shard != "none":  # too large for throw-away copies
        automatic: Precision = "bfloat16" if has_bfloat16(world.device) else "float32"
        return Trial(automatic if training.precision == "auto" else training.precision)
    share = max(1, training.batch // world.size)
    alone = replace(training, batch=share, accumulate=min(training.accumulate, share))
    objective = run.lesson.objective

    def work() -> dict[str, Any]:
        return asdict(tried(objective, alone, batches, seed=run.recipe.seed))

    trial = Trial(**world.lead(work))
    if run.show:
        parameters = sum(p.numel() for p in objective.parameters() if p.requires_grad)
        pace = trial.images_per_second * world.size
        images = expected_images(run.written["budget"], pace, time.monotonic() - run.began)
        lines = [expectation(run.written, parameters, pace, trial.memory, images)]
        data = run.written["data"]
        lines += run.recipe.advice(images / data["pictures"], max(data["size"]))
        print(*lines, sep="\n", file=sys.stderr)
    return trial


def measuring_of(run: Opened, trainer: Trainer, plan: Plan | None) -> Measuring | None:
    """How the run's length is settled, if it still may be."""
    minutes = _budget(run).minutes
    if minutes is None or (plan is not None and settled(plan, trainer.progress.seen, run.recipe.training)):
        return None
    step, precision = trainer.images_per_iteration, trainer.precision
    evaluations = run.lesson.evaluations

    def settle(pace: Pace) -> Plan:
        watch = run.recipe.watch
        return _settle(run, plan_minutes(minutes, pace, step, precision, watch, evaluations=evaluations))

    first, last = measuring_seconds(minutes, run.recipe.training)
    return Measuring(first, last, run.began - trainer.progress.seconds, settle)


def _budget(run: Opened) -> Budget:
    return from_json(Budget, run.written["budget"], str(run.folder / RECIPE))


def plan_of(run: Opened) -> Plan:
    """The plan that is written down."""
    return from_json(Plan, run.written["plan"], str(run.folder / RECIPE))


def _settle(run: Opened, plan: Plan) -> Plan:
    """The plan of the first process becomes that of all."""

    def write() -> dict[str, Any]:
        judge, measures = judgeable(run.dataset, plan.judge), measurable(run.dataset, plan.measures)
        run.written["plan"] = to_json(replace(plan, judge=judge, measures=measures))
        write_json(run.folder / RECIPE, run.written)
        settled: dict[str, Any] = run.written["plan"]
        return settled

    run.written["plan"] = run.world.lead(write)
    return plan_of(run)
