"""Who is compared: runs and snapshots, whose samples are drawn with the same seeds, and sets of pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.contracts import Model
from limner.data import DataConfig, Dataset, open_dataset
from limner.errors import UserError
from limner.files import expanded
from limner.metrics.choice import choose
from limner.metrics.classes import class_numbers, knows
from limner.metrics.evaluation import FEWEST, check_count
from limner.sampling import evaluations, sample
from limner.sampling.draw import way_of
from limner.training.report_run import Run, read_run
from limner.training.snapshot import is_model, load

Images = npt.NDArray[np.uint8]
Told = Callable[[str], None]


@dataclass(frozen=True)
class Cost:
    """What a generator takes; None where it is not known.

    Attributes:
        images: seen in training.
        minutes: of training, set-up included.
        parameters: of the network.
        evaluations: of the network for one picture, guidance included.
        per_second: pictures drawn, here and now.
    """

    images: int | None = None
    minutes: float | None = None
    parameters: int | None = None
    evaluations: int | None = None
    per_second: float | None = None


@dataclass(frozen=True, eq=False)
class Contender:
    """One of those that are compared.

    Attributes:
        name: short, and no other's.
        source: as the user gave it.
        images: (N, H, W, C) uint8, those that are judged.
        labels: the class that each was asked to be, () where there are none.
        cost: what it takes.
        records: lines of its training's ``metrics.jsonl``.
        draws: what it makes pictures from, "noise", "uniform numbers" or "codes", the same ones for all that do; ""
            where it draws none.
    """

    name: str
    source: str
    images: Images
    labels: tuple[str, ...]
    cost: Cost
    records: tuple[dict[str, Any], ...] = ()
    draws: str = ""


def gather(
    sources: Sequence[str], reference: DataConfig, real: Dataset, n: int, seed: int, tell: Told
) -> tuple[list[Contender], list[str]]:
    """All contenders with equally many pictures, and sentences that a reader should see.

    Args:
        sources: runs, snapshots, and pictures as ``--data`` takes them.
        reference: how the real pictures were opened; sets of pictures are brought to the same size and mode.
        real: the real pictures.
        n: pictures of each, fewer where a set has fewer.
        seed: of the samples; picture i of every generator has the same number, and the same class where they share
            some: as often as the reference has each.
        tell: is told what goes on.

    Raises:
        UserError: a source is missing, is given twice, or holds pictures of another size or mode.
    """
    names = _short(sources)
    models = {name: load(source) for name, source in names.items() if is_model(source)}
    for name, model in models.items():
        fits(name, model, real)
    sets = {
        name: open_dataset(reference.like(real.spec, source)) for name, source in names.items() if name not in models
    }
    count, notes = _count(n, sets)
    check_count("reference pictures", len(real))
    notes += [said for name, pictures in sets.items() for said in told_of(pictures, name)]
    notes += told_of(real, "reference")
    common = _common([model for model in models.values() if model.labels])
    labelled = [name for name, model in models.items() if model.labels]
    if not common and len(labelled) > 1:
        notes.append(f"{', '.join(labelled)} share no class: each draws its own")
    notes += [said for name, model in models.items() for said in told_of_prompts(name, model)]
    for name in labelled:
        notes += told_of_classes(name, common or models[name].labels, real)
    found = []
    for name, source in names.items():
        tell(f"{count:,} pictures of {name}")
        if name in models:
            classes = models[name].labels and (common or models[name].labels)
            found.append(_drawn(name, source, models[name], classes, real, count, seed))
        else:
            found.append(_chosen(name, source, sets[name], count, seed))
    return found, notes


def _short(sources: Sequence[str]) -> dict[str, str]:
    """The last part of each path, as far as that tells them apart."""
    paths = [(source, expanded(source)) for source in sources]
    given = [str(path) if path.exists() else source for source, path in paths]
    twice = next((one for i, one in enumerate(given) if one in given[:i]), None)
    if twice is not None:
        raise UserError(f"{twice} is given twice; compare different runs")
    if len(given) < 2:
        raise UserError("give two runs at least, snapshots or sets of pictures; one alone is for: limner evaluate")
    last = [Path(one).parent.name if Path(one).name == "snapshot" else Path(one).name or one for one in given]
    return {name if last.count(name) == 1 else one: one for name, one in zip(last, given, strict=True)}


def fits(name: str, model: Model, real: Dataset) -> None:
    """Raises UserError if a model draws pictures of another size or mode than the real ones."""
    if (model.spec.size, model.spec.mode) != (real.spec.size, real.spec.mode):
        drawn, wanted = (f"{s.size[0]}x{s.size[1]} {s.mode}" for s in (model.spec, real.spec))
        raise UserError(
            f"{name} draws {drawn}, the reference pictures are {wanted}; bring them to its size and mode with "
            f"--reference.size {model.spec.size[0]} {model.spec.size[1]} --reference.mode {model.spec.mode}"
        )


def _count(n: int, sets: dict[str, Dataset]) -> tuple[int, list[str]]:
    """Measures of different counts cannot be compared: the smallest set decides."""
    if n < FEWEST:
        raise UserError(f"n is {n}; the measures need at least {FEWEST} pictures")
    smallest = min(sets, key=lambda name: len(sets[name]), default=None)
    if smallest is None or len(sets[smallest]) >= n:
        return n, []
    count = len(sets[smallest])
    if count < FEWEST:
        raise UserError(f"{smallest} has only {count} pictures; the measures need at least {FEWEST}")
    return count, [f"{smallest} has {count:,} pictures, so as many of each are compared"]


def _common(models: Sequence[Model]) -> tuple[str, ...]:
    """Classes that all of them know, in the order of the first."""
    if not models:
        return ()
    return tuple(name for name in models[0].labels if all(name in model.labels for model in models))


def told_of(pictures: Dataset, name: str) -> list[str]:
    """What became of a set's pictures before they were judged."""
    return [f"{name}: {said}" for said in pictures.report.notes]


def told_of_classes(name: str, classes: Sequence[str], real: Dataset) -> list[str]:
    """Where samples cannot have the reference's proportions of classes."""
    if knows(real, classes):
        return []
    return [f"{name} draws each of its classes equally often: the reference does not say how often each is"]


def told_of_prompts(name: str, model: Model) -> list[str]:
    """What a model that reads texts was asked for."""
    if model.text is None:
        return []
    return [f"{name} draws what {len(model.prompts)} captions of its training say, in turn"]


def _drawn(
    name: str, source: str, model: Model, classes: Sequence[str], real: Dataset, count: int, seed: int
) -> Contender:
    asked = tuple(classes[number] for number in class_numbers(classes, real, count)) if classes else ()
    numbers = [model.labels.index(label) for label in asked] if asked else None
    began = time.monotonic()
    images = sample(model, count, label=numbers, seed=seed)
    per_second = count / max(time.monotonic() - began, 1e-9)
    run = _run(Path(source))
    training = {part: run.seconds.get(part) for part in ("set-up", "training")} if run else {}
    known = [value for value in training.values() if isinstance(value, (int, float))]
    seen = run.done.get("images") if run else None
    cost = Cost(
        images=seen if isinstance(seen, int) else None,
        minutes=sum(known) / 60 if known else None,
        parameters=sum(p.numel() for p in model.net.parameters()),
        evaluations=evaluations(model.defaults),
        per_second=per_second,
    )
    return Contender(name, source, images, asked, cost, tuple(run.records) if run else (), way_of(model).source)


def _run(folder: Path) -> Run | None:
    """The run that a run's folder or its snapshot belongs to."""
    home = next((one for one in (folder, folder.parent) if (one / "recipe.json").is_file()), None)
    if home is None or (home != folder and folder.name != "snapshot"):
        return None
    return read_run(home)


def _chosen(name: str, source: str, pictures: Dataset, count: int, seed: int) -> Contender:
    which = choose(len(pictures), count, seed, "samples").numpy()
    labels: tuple[str, ...] = ()
    if pictures.label is not None and pictures.labels:
        labels = tuple(pictures.labels[number] for number in pictures.label[which].tolist())
    return Contender(name, source, np.asarray(pictures.images[which]), labels, Cost())
