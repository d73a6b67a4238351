"""A run: a folder that a recipe and a data set become, started, interrupted, resumed and finished."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from limner.allocator import keep_freed_memory
from limner.config import from_json, read_json, to_json
from limner.contracts import Model, RefineConfig
from limner.data import DataConfig, Dataset, pinned
from limner.data.cache import cache_root
from limner.distributed import World, join
from limner.errors import UserError
from limner.files import write_json
from limner.sampling.draw import asking
from limner.shards import on_first
from limner.training.captions import reading_of
from limner.training.checkpoint import anchors, load_checkpoint
from limner.training.config import Budget
from limner.training.costs import flops_per_image
from limner.training.describing import card, described, environment, peak_memory, warn_if_changed
from limner.training.folders import RECIPE, claimed, refuse_run, sweep, taken_up
from limner.training.guiding import best_guidance
from limner.training.job import Recipe
from limner.training.loop import CHECKPOINTS, Loop
from limner.training.opening import (
    VERSION,
    Opened,
    before_it,
    check,
    lesson_of,
    measuring_of,
    open_together,
    plan_of,
    prepare,
    same_everywhere,
)
from limner.training.profiles import FOLDER as PROFILES
from limner.training.recovery import Recovery
from limner.training.report import write_report
from limner.training.report_run import read_run
from limner.training.snapshot import CODEC, TEXT, DenoiserConfig, is_model, save_config, save_snapshot
from limner.training.stopping import Interrupted, stop_requests
from limner.training.tracking import METRICS, Tracker, records
from limner.training.trainer import Trainer, check_batch
from limner.training.watching import SAMPLES, Watcher

DONE, SNAPSHOT = "done.json", "snapshot"
#: Where a kill may leave half of a file.
_SAVED = ("", CHECKPOINTS, PROFILES, SAMPLES, SNAPSHOT)


@dataclass(frozen=True)
class RunResult:
    """What a finished run is.

    Attributes:
        folder: of the run; a MODEL for every command.
        report: the page.
        images: seen in training.
        seconds: by part; "drawing" and "judging" after the training are on top of a budget in minutes.
        measures: rows by name, empty if nothing was judged.
        advice: sentences on what to change.
        draws: whether the model draws pictures of its own, which a codec does not.
    """

    folder: Path
    report: Path
    images: int
    seconds: dict[str, float]
    measures: dict[str, dict[str, Any]]
    advice: tuple[str, ...] = ()
    draws: bool = True


def start(
    recipe: Recipe,
    data: DataConfig,
    out: Path | Iterable[Path],
    budget: Budget,
    *,
    cache: Path | None = None,
    show: bool = True,
    began: float | None = None,
) -> RunResult:
    """Train a recipe on a data set into a new folder.

    Processes that torchrun started train together, as one would; the first one writes and speaks.

    Args:
        recipe: all settings.
        data: the pictures.
        out: the run's folder, which must be new or empty; of several, the first that is.
        budget: minutes or images.
        cache: of decoded pictures and reference statistics.
        show: draw progress on standard error.
        began: ``time.monotonic()`` at which the budget's clock started; now by default.

    Raises:
        UserError: anything the user can put right.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    clock = time.monotonic() if began is None else began
    world = join()
    show = show and world.first
    check_batch(recipe.training, world)
    if isinstance(out, Path):
        world.lead(lambda: refuse_run(out))
    dataset = open_together(data, world, cache=cache, show=show)
    source = recipe.codec_source()
    reading = reading_of(recipe, dataset, world, show=show)
    before = before_it(source, recipe, dataset, world, cache=cache, show=show)
    lesson = lesson_of(recipe, dataset, world, before, reading)  # before there is a folder: it may refuse the pictures
    check(recipe, dataset, lesson, world, show=show)
    written: dict[str, Any] = {
        "version": VERSION,
        "recipe": recipe.recipe,
        "draws": lesson.showing.draws,
        "config": to_json(recipe),
        "source": to_json(pinned(data, dataset)),
        "budget": to_json(budget),
        "plan": None,
        "environment": environment(world),
        "data": described(dataset),
    }
    if reading is not None:
        written["prompts"] = [*reading.prompts]

    with claimed([out] if isinstance(out, Path) else out, world) as folder:

        def write() -> None:
            write_json(folder / RECIPE, written)
            write_json(folder / "data_report.json", asdict(dataset.report))
            if before is not None:  # a copy: the run must not change where the codec does
                save_snapshot(folder / CODEC, before.config, before.codec.state_dict(), "# The codec of this run\n")
            if reading is not None:
                reading.tokenizer.save(folder / TEXT)

        world.lead(write)
        return _go(Opened(folder, recipe, dataset, lesson, written, clock, show, world, cache, before, reading))


def resume(
    folder: Path,
    read_recipe: Callable[[str, Any], Recipe],
    *,
    cache: Path | None = None,
    show: bool = True,
) -> RunResult:
    """Take a run up again where its last checkpoint stands; of one that has ended, tell what it is.

    Args:
        folder: of the run.
        read_recipe: (name, plain values) to the recipe.
        cache, show: as for :func:`start`.

    Raises:
        UserError: there is no run, it is under way, its files are damaged, or its data has changed.
        Interrupted: as for :func:`start`.
    """
    began = time.monotonic()
    world = join()
    show = show and world.first
    with taken_up(folder, world):
        written: dict[str, Any] = world.lead(lambda: _written(folder))
        world.lead(lambda: sweep(folder, _SAVED))
        ended: dict[str, Any] | None = world.lead(lambda: _ended(folder))
        if ended is not None:
            if show:
                print(f"{folder} is finished already; its report is {ended['report']}", file=sys.stderr)
            return RunResult(folder, **ended | {"report": Path(ended["report"]), "advice": tuple(ended["advice"])})
        recipe = read_recipe(str(written.get("recipe")), written.get("config"))
        dataset = _same_pictures(folder, written, _source(folder, written), world, cache, show=show)
        own = str(folder / CODEC) if recipe.codec_source() else ""
        reading = reading_of(recipe, dataset, world, run=folder, show=show)
        before = before_it(own, recipe, dataset, world, cache=cache, show=show)
        lesson = lesson_of(recipe, dataset, world, before, reading)
        check(recipe, dataset, lesson, world, show=show)
        return _go(Opened(folder, recipe, dataset, lesson, written, began, show, world, cache, before, reading))


def point_to(folder: Path, source: str, *, cache: Path | None = None, show: bool = True) -> None:
    """Have a run take its pictures from where they are now.

    Args:
        folder: of the run.
        source: of the same pictures.
        cache, show: as for :func:`start`.

    Raises:
        UserError: there is no run, it is under way, or these are other pictures.
    """
    world = join()
    with taken_up(folder, world):
        written: dict[str, Any] = world.lead(lambda: _written(folder))
        data = replace(_source(folder, written), source=source)
        with closing(_same_pictures(folder, written, data, world, cache, show=show and world.first)) as dataset:
            written |= {"source": to_json(pinned(data, dataset)), "data": described(dataset)}
        world.lead(lambda: write_json(folder / RECIPE, written))


def _source(folder: Path, written: dict[str, Any]) -> DataConfig:
    return from_json(DataConfig, written.get("source"), str(folder / RECIPE))


def _same_pictures(
    folder: Path, written: dict[str, Any], data: DataConfig, world: World, cache: Path | None, *, show: bool
) -> Dataset:
    """The pictures that the run began with, or a UserError."""
    dataset = open_together(data, world, cache=cache, show=show)
    if dataset.fingerprint != written["data"]["fingerprint"]:
        raise UserError(
            f"the pictures in {data.source} have changed since {folder} began; start a new run with --out, or say with "
            "--data where those of the run are"
        )
    return dataset


def _ended(folder: Path) -> dict[str, Any] | None:
    """What a run that has ended is, as plain values, with a fresh page; None if it has not."""
    run = read_run(folder)
    images = run.done.get("images")
    if not isinstance(images, int) or not is_model(folder / SNAPSHOT):
        return None
    measures = {row["name"]: {k: v for k, v in row.items() if k != "name"} for row in run.rows}
    return {
        "report": str(write_report(folder)),
        "images": images,
        "seconds": {**run.seconds},
        "measures": measures,
        "advice": run.done.get("advice") or [],
        "draws": run.draws,
    }


def _written(folder: Path) -> dict[str, Any]:
    written = read_json(folder / RECIPE)
    if not isinstance(written, dict) or written.get("version") != VERSION:
        raise UserError(f"{folder / RECIPE} is damaged or of another version; this limner reads version {VERSION}")
    return written


def _go(run: Opened) -> RunResult:
    keep_freed_memory()
    with stop_requests() as stop, _reported(run):
        with closing(run.dataset):
            trainer, plan = prepare(run)
            trainer.progress = load_checkpoint(run.folder / CHECKPOINTS, trainer.state)
            same_everywhere(trainer.progress.seen, run.world)
            measuring = measuring_of(run, trainer, plan)
            if run.written.get("sittings", 0):
                trainer.progress = replace(trainer.progress, interrupted=trainer.progress.interrupted + 1)
                run.world.lead(lambda: warn_if_changed(run.written["environment"], run.world))
            run.written["sittings"] = run.written.get("sittings", 0) + 1
            run.world.lead(lambda: write_json(run.folder / RECIPE, run.written))
            watcher = Watcher(
                run.folder,
                run.dataset,
                run.recipe.watch.pictures,
                run.recipe.watch.extractor,
                run.recipe.seed,
                cache_root(run.cache) / "measures",
                run.world,
                run.lesson.showing(run.dataset, run.recipe.seed, run.world),
            )
            set_up = time.monotonic() - run.began
            averaged = run.lesson.model_of(trainer.state.ema.modules[run.lesson.network])
            raw = run.lesson.model
            recovery = Recovery(
                trainer,
                run.recipe.training.recovery,
                run.folder / CHECKPOINTS,
                lambda: lesson_of(run.recipe, run.dataset, run.world, run.behind, run.reading).objective,
            )
            loop = Loop(
                trainer, plan, measuring, recovery, watcher, averaged, raw, run.folder, show=run.show, stop=stop
            )
            loop.run()
        with asking(lambda: _ask(run, trainer, stop)):
            return _finish(run, trainer, watcher, set_up)


@contextmanager
def _reported(run: Opened) -> Iterator[None]:
    """Where a signal ends this, write the report of what there is: whoever stops a run wants to see it."""
    try:
        yield
    except Interrupted:
        told = run.world.lead(lambda: _report(run.folder))
        if told and run.show:
            print(told, file=sys.stderr)
        raise


def _report(folder: Path) -> str:
    """Write the page; returns why it could not be, "" if it could."""
    try:
        write_report(folder)
    except (UserError, OSError) as error:
        return f"no report was written: {error}"
    return ""


def _ask(run: Opened, trainer: Trainer, stop: list[int]) -> None:
    """Raises :class:`Interrupted` in all processes where a signal has asked one of them to stop."""
    (number,) = run.world.most(*stop[:1] or [0])
    if number:
        raise Interrupted(run.folder, trainer.progress.seen, number, trained=True)


def _finish(run: Opened, trainer: Trainer, watcher: Watcher, set_up: float) -> RunResult:
    """Snapshot first: whatever happens afterwards, the model is there."""
    plan = plan_of(run)
    world = run.world
    trainer.settle()
    ema = trainer.state.ema.modules[run.lesson.network]
    about = card(run.written, run.folder, conditional=bool(run.lesson.model.labels))
    weights = on_first(ema.state_dict(), world)

    def keep() -> None:
        for path in anchors(run.folder / CHECKPOINTS):
            path.unlink(missing_ok=True)
        save_snapshot(run.folder / SNAPSHOT, run.lesson.config, weights, about, run.lesson.codec, run.lesson.text)

    world.lead(keep)
    trained = time.monotonic()
    model, tried = _guided(run, run.lesson.model_of(ema), watcher, plan.tries if plan.judge else 0)
    tracker = Tracker(run.folder if world.first else None, trainer.progress.seen)
    try:
        raw = replace(run.lesson.model, defaults=model.defaults)
        for name, one in (("final", model), ("final_raw", raw)):
            tracker.pictures(plan.images, name, watcher.draw_grid(one, name))
        drawn = time.monotonic()
        rows = watcher.judge(model, plan.judge) if plan.judge else {}
        if rows:
            tracker.measures(plan.images, trainer.progress.seconds, rows)
    finally:
        tracker.close()
    seconds = {
        "set-up": set_up,
        "training": trainer.progress.seconds,
        "drawing": drawn - trained,
        "judging": time.monotonic() - drawn,
    }
    advice = world.lead(lambda: trainer.objective.advice(_lately(run.folder), _variety(rows)))
    done = {
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "images": trainer.progress.seen,
        "parameters": sum(p.numel() for p in ema.parameters()),
        "flops_per_image": flops_per_image(
            trainer.objective, run.lesson.config.spec, labelled=bool(run.lesson.model.labels)
        ),
        "peak_memory_bytes": peak_memory(trainer.device),
        "processes": world.size,
        "guidance": model.defaults.guidance if isinstance(model.defaults, RefineConfig) else None,
        "guidances": {f"{guidance:g}": distance for guidance, distance in tried.items()},
        "interrupted": trainer.progress.interrupted,
        "skipped_steps": trainer.progress.skips,
        "roll_backs": trainer.progress.rollbacks,
        "advice": advice,
    }

    def report() -> str:
        write_json(run.folder / DONE, done)
        return str(write_report(run.folder))

    page = Path(world.lead(report))
    return RunResult(run.folder, page, trainer.progress.seen, seconds, rows, tuple(advice), run.lesson.showing.draws)


def _lately(folder: Path) -> dict[str, float]:
    """What was logged in the last tenth of the run, on average."""
    lines = records(folder / METRICS)
    last = [line for line in lines if line["images"] >= 0.9 * lines[-1]["images"]]
    values: dict[str, list[float]] = {}
    for line in last:
        for name, value in line.items():
            if isinstance(value, float):
                values.setdefault(name, []).append(value)
    return {name: sum(one) / len(one) for name, one in values.items()}


def _variety(rows: dict[str, dict[str, Any]]) -> float | None:
    """Recall or coverage, whichever is worse, as a share of what real held-out pictures have."""
    found = [row for name, row in rows.items() if name.startswith(("recall_", "coverage_")) and row["real"]]
    return min((row["value"] / row["real"] for row in found), default=None)


def _guided(run: Opened, model: Model, watcher: Watcher, count: int) -> tuple[Model, dict[float, float]]:
    """The model with the guidance that suits it, which its snapshot then has too, and the distances of all that were
    tried: simple pictures lose by a strong one, and those of many kinds gain."""
    wanted, config = run.recipe.watch.guidances, run.lesson.config
    if not isinstance(config, DenoiserConfig) or not isinstance(model.defaults, RefineConfig):
        return model, {}
    own = model.defaults.guidance
    if own == 1 or not model.labels or not wanted or not count:
        return model, {}
    if run.show:
        print(f"looking at {count} samples each of guidances that may suit these pictures better", file=sys.stderr)
    tried = watcher.guided(model, (own, *wanted), count)
    best = best_guidance(tried)
    if best == own:
        return model, tried
    sampling = replace(model.defaults, guidance=best)
    run.world.lead(lambda: save_config(run.folder / SNAPSHOT, replace(config, sampling=sampling)))
    if run.show:
        print(f"a guidance of {best:g} suits these pictures better than {own:g}: samples have it now", file=sys.stderr)
    return replace(model, defaults=sampling), tried
