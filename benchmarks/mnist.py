"""MNIST in minutes: limner's defaults, and two peers of the diffusers library, by one judge in one run.

    LIMNER_MIRROR=DIR python benchmarks/mnist.py --minutes 1 3 10 --seeds 1 2 3 --peers course tuned

Every finished cell is kept in --out at once, so that the benchmark can be stopped and taken up again. limner is run as
a user runs it, `limner train flow --data mnist --minutes M`, and draws with its defaults. Cells of limner and of the
tuned peer alternate, so that a slower hour of the machine hits both sides; the course's network, whose rate is
constant, is trained once and judged as it stood after each budget.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import tyro

import limner
from limner.files import write_json
from mnist_judge import digits, distance, held_out, judge
from pixels import eight_bit

if TYPE_CHECKING:
    from peers import Draw, Trained

#: The seed of the noise that judged samples are drawn from; trainings have their own.
DRAWN = 20_000
#: The seed, and the number, of samples that a peer's guidance is chosen by.
CHOSEN, CHOSEN_BY = 30_000, 2_000
#: Minutes in which a peer may have reached limner's figure of GOAL minutes.
REACH = (5.0, 10.0, 20.0, 30.0, 45.0, 60.0)
GOAL = 3.0
#: Below so much above the goal, few samples are too few: at 2,000 the distance of real digits is about 2 higher.
CLOSE = 5.0
#: By this share of its budget a run's time may be off: more, and the machine changed its speed after it was measured.
OFF = 0.1
#: Below this share of the images that the fastest of its first steps promises, the tuned peer stood nearly still.
SEEN = 0.5


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        minutes: budgets.
        seeds: of trainings.
        peers: which of course, tuned.
        peer_seeds: of the peers' trainings.
        samples: judged, of limner and of the tuned peer.
        course_samples: judged of the course's network, which draws slowly.
        reach: also train the peers for up to 60 minutes, until one reaches limner's 3-minute figure.
        out: where finished cells are kept.
        networks: folder where the peers' trained networks are kept, so that they can be judged again.
    """

    minutes: tuple[float, ...] = (1.0, 3.0, 10.0)
    seeds: tuple[int, ...] = (1, 2, 3)
    peers: tuple[Literal["course", "tuned"], ...] = ()
    peer_seeds: tuple[int, ...] = (1,)
    samples: int = 10_000
    course_samples: int = 2_000
    reach: bool = False
    out: Path = Path("build/mnist.json")
    networks: Path = Path("build/peers")


Cell = dict[str, Any]


@dataclass(frozen=True)
class Cells:
    """Finished cells by name, kept in a file."""

    path: Path
    done: dict[str, Cell]

    @staticmethod
    def of(path: Path) -> Cells:
        return Cells(path, json.loads(path.read_text()) if path.exists() else {})

    def keep(self, name: str, make: Callable[[], Cell]) -> Cell:
        """The cell of that name, made now if it is not there yet."""
        if name not in self.done:
            load = os.getloadavg()[0]
            self.done[name] = make() | {"load_before": load}
            write_json(self.path, self.done)
            shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in self.done[name].items()}
            print(name, shown, file=sys.stderr, flush=True)
        return self.done[name]

    def groups(self) -> dict[str, list[Cell]]:
        """Cells that differ in the seed alone."""
        groups: dict[str, list[Cell]] = {}
        for name, cell in self.done.items():
            groups.setdefault(name.split(" seed ")[0], []).append(cell)
        return groups


def ours(minutes: float, seed: int, samples: int) -> Cell:
    """A run that missed its budget because the machine changed its speed is void, and made again, twice at most."""
    with tempfile.TemporaryDirectory() as folder:
        for attempt in range(3):
            run = Path(folder) / str(attempt)
            cell = train(run, minutes, seed) | {"void_before": attempt}
            if abs(cell["wall"] / (minutes * 60) - 1) <= OFF:
                break
        pictures = limner.sample(limner.load(run), samples, seed=DRAWN, batch=250)
    return cell | {"flops": our_flops(minutes)} | verdict(pictures)


def train(run: Path, minutes: float, seed: int) -> Cell:
    begun = time.monotonic()
    command = [sys.executable, "-m", "limner.cli", "train", "flow", "--data", "mnist", "--out", str(run),
               "--minutes", str(minutes), "--seed", str(seed), "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    wall = time.monotonic() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    told = json.loads(done.stdout)
    wall -= told["seconds"]["judging"]  # comes on top of a budget
    return {"images": told["images"], "seconds": told["seconds"], "wall": wall, "minutes": minutes}


def tuned(minutes: float, seed: int, samples: int, kept: Path) -> Cell:
    """A training in which the machine nearly stood still is void, and made again, twice at most."""
    import peers

    if not kept.exists():
        data = digits()
        assert data.label is not None
        for _ in range(3):
            trained = peers.tuned(eight_bit(data.images), data.label, minutes, seed, our_flops(minutes))
            told = trained.training
            if told.images >= SEEN * told.paces[told.arithmetic] * minutes * 60:
                break
            print(f"tuned, {minutes:g} min: void, {told.images} images seen", file=sys.stderr)
        trained.save(kept)
    trained = peers.Trained.of(kept, peers.tuned_net(our_flops(minutes)))
    return told_of(trained, peers.tuned_draws(trained.net), minutes, samples)


def told_of(trained: Trained, draws: dict[float, Draw], minutes: float, samples: int) -> Cell:
    """The verdict with the best of several guidances, chosen by fewer samples of other noise."""
    tried = {} if len(draws) == 1 else {g: distance(draw(CHOSEN_BY, CHOSEN)) for g, draw in draws.items()}
    best = min(tried, key=lambda g: tried[g]) if tried else 1.0
    about = asdict(trained.training) | {"wall": trained.training.seconds, "minutes": minutes}
    about |= {"guidance": best, "tried": {f"{g:g}": fd for g, fd in tried.items()}}
    return about | verdict(draws[best](samples, DRAWN))


def our_flops(minutes: float) -> float:
    """Of one forward pass of what limner trains by default in so many minutes."""
    import torch

    from limner.contracts import Condition, Level
    from limner.recipes import recipe, size_for
    from limner.training.costs import counted

    data = digits()
    net = recipe("flow", size_for(minutes)).lesson(data.spec, data.labels, data.stats).model.net
    one = torch.ones(1)
    return counted(lambda: net(torch.zeros(1, *data.spec.shape), Level(one, one), Condition(torch.zeros(1).long())))


def verdict(pictures: npt.NDArray[np.uint8]) -> Cell:
    return asdict(judge(pictures, np.arange(len(pictures)) % 10))


def main(args: Args) -> None:
    cells = Cells.of(args.out)
    cells.keep("held out", lambda: asdict(held_out()))
    for minutes in args.minutes:
        for i, seed in enumerate(args.seeds):
            cells.keep(f"limner {minutes:g} min seed {seed}", lambda m=minutes, s=seed: ours(m, s, args.samples))  # type: ignore[misc]
            if i < len(args.peer_seeds) and "tuned" in args.peers:
                tuned_cell(args, cells, minutes, args.peer_seeds[i])
    if args.reach and "tuned" in args.peers:
        goal = goal_of(cells)
        seed = args.peer_seeds[0]
        upwards(
            lambda minutes: bool(tuned_cell(args, cells, minutes, seed)["fd"] <= goal),
            lambda minutes: f"tuned {minutes:g} min seed {seed}" in cells.done,
        )
    if "course" in args.peers:
        for seed in args.peer_seeds:
            course_cells(args, cells, seed)
    print(table(cells))
    print("\n".join(["", *remarks(cells)]))


def tuned_cell(args: Args, cells: Cells, minutes: float, seed: int) -> Cell:
    kept = args.networks / f"tuned-{minutes:g}min-{seed}.safetensors"
    return cells.keep(f"tuned {minutes:g} min seed {seed}", lambda: tuned(minutes, seed, args.samples, kept))


def course_cells(args: Args, cells: Cells, seed: int) -> None:
    """One training for all budgets and, with --reach, for the time that it takes to limner's figure."""
    import peers

    data = digits()
    assert data.label is not None
    kept = {
        m: args.networks / f"course-{m:g}min-{seed}.safetensors"
        for m in {*args.minutes, *(REACH if args.reach else ())}
    }
    budgets = tuple(sorted(kept))
    if not all(path.exists() for path in kept.values()):
        for minutes, trained in zip(
            budgets, peers.course(eight_bit(data.images), data.label, seed, budgets), strict=True
        ):
            trained.save(kept[minutes])

    def cell(minutes: float, goal: float) -> Cell:
        def make() -> Cell:
            trained = peers.Trained.of(kept[minutes], peers.CourseNet())
            draws = peers.course_draws(trained.net)
            few = told_of(trained, draws, minutes, args.course_samples)
            return few if few["fd"] > goal + CLOSE else told_of(trained, draws, minutes, args.samples)

        return cells.keep(f"course {minutes:g} min seed {seed}", make)

    for minutes in args.minutes:
        cell(minutes, 0.0)
    if args.reach:
        goal = goal_of(cells)
        downwards(lambda minutes: bool(cell(minutes, goal)["fd"] <= goal))


def upwards(reached: Callable[[float], bool], known: Callable[[float], bool]) -> None:
    """Asks of REACH in order until one reaches: each has a training of its own. If more minutes are never worse, those
    below one that is known not to reach need not be asked."""
    missed = max((minutes for minutes in REACH if known(minutes) and not reached(minutes)), default=0.0)
    any(reached(minutes) for minutes in REACH if minutes > missed)


def downwards(reached: Callable[[float], bool]) -> None:
    """Asks of REACH from the longest until one does not reach: one training made them all, and only judging costs."""
    all(reached(minutes) for minutes in reversed(REACH))


def goal_of(cells: Cells) -> float:
    known = cells.groups().get(f"limner {GOAL:g} min")
    if not known:
        raise SystemExit(f"--reach needs limner's figure of {GOAL:g} minutes: add {GOAL:g} to --minutes")
    return median(known, "fd")


def median(group: list[Cell], name: str) -> float:
    return statistics.median(float(cell.get(name, 0)) for cell in group)


def table(cells: Cells) -> str:
    """Markdown: medians over seeds."""
    columns = ("precision", "recall", "coverage", "near_copies", "read")
    head = ("what", "seeds", "judged", "MFLOPs", "images seen", "wall s", "fd", "fd / limner's", *columns)
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    groups = cells.groups()
    for name, group in groups.items():
        same = groups.get(f"limner {group[0].get('minutes', 0):g} min")
        shown = [
            name,
            str(len(group)),
            f"{median(group, 'count'):,.0f}",
            f"{median(group, 'flops') / 1e6:.1f}",
            f"{median(group, 'images'):,.0f}",
            f"{median(group, 'wall'):.0f}",
            f"{median(group, 'fd'):.2f}",
            f"{median(group, 'fd') / median(same, 'fd'):.2f}" if same else "",
            *(f"{median(group, column):.4f}" for column in columns),
        ]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def remarks(cells: Cells) -> list[str]:
    """What the table does not say at a glance: budgets that were exceeded, shares of real digits' scores, goals."""
    lines = []
    groups = cells.groups()
    real = groups["held out"]
    for name, group in groups.items():
        late = [cell["wall"] / (cell["minutes"] * 60) - 1 for cell in group if "minutes" in cell]
        if late and max(late) > OFF:
            lines.append(f"- {name}: OVER BUDGET by {max(late):.0%} in the worst of {len(late)}")
        if name.startswith("limner"):
            coverage, recall = (median(group, m) / median(real, m) for m in ("coverage", "recall"))
            copies = 100 * (median(group, "near_copies") - median(real, "near_copies"))
            lines.append(
                f"- {name}: coverage {coverage:.3f} × and recall {recall:.3f} × real digits', "
                f"near copies {copies:+.1f} points"
            )
    if f"limner {GOAL:g} min" in groups:
        lines += [_reached(groups, name, goal_of(cells)) for name in ("course", "tuned")]
    return [line for line in lines if line]


def _reached(groups: dict[str, list[Cell]], name: str, goal: float) -> str:
    """In how many minutes the peer came to the goal, if it was followed beyond the table's budgets."""
    known = {m: groups[f"{name} {m:g} min"][0]["fd"] for m in REACH if f"{name} {m:g} min" in groups}
    if max(known, default=0.0) <= max(GOAL, 10.0):
        return ""
    reached = [minutes for minutes, fd in known.items() if fd <= goal]
    end = f"at {goal:.2f} in {min(reached):g} minutes" if reached else f"not at {goal:.2f} in {max(known):g} minutes"
    return f"- {name}: {end} ({', '.join(f'{m:g} min {fd:.2f}' for m, fd in known.items())})"


if __name__ == "__main__":
    main(tyro.cli(Args))
