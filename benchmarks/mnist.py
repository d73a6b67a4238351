"""MNIST in minutes: limner's defaults, and two peers of the diffusers library, by one judge in one run.

    LIMNER_MIRROR=DIR python benchmarks/mnist.py --minutes 1 3 10 --seeds 1 2 3 --peers course tuned

Every finished cell is kept in --out at once, so that the benchmark can be stopped and taken up again. limner is run as
a user runs it, `limner train flow --data mnist --minutes M`, and draws with its defaults. Cells of limner and of the
peers alternate, so that a slower hour of the machine hits all sides.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import limner
from limner.files import write_json
from mnist_judge import digits, held_out, judge

#: The seed of the noise that judged samples are drawn from; trainings have their own.
DRAWN = 20_000


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
        reach: also train the peers for 5, 10, 20, 40 and 60 minutes, until one reaches limner's 3-minute figure.
        out: where finished cells are kept.
    """

    minutes: tuple[float, ...] = (1.0, 3.0, 10.0)
    seeds: tuple[int, ...] = (1, 2, 3)
    peers: tuple[str, ...] = ()
    peer_seeds: tuple[int, ...] = (1,)
    samples: int = 10_000
    course_samples: int = 2_000
    reach: bool = False
    out: Path = Path("build/mnist.json")


Cells = dict[str, dict[str, Any]]


def ours(minutes: float, seed: int, samples: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        begun = time.monotonic()
        command = [sys.executable, "-m", "limner.cli", "train", "flow", "--data", "mnist", "--out", str(run),
                   "--minutes", str(minutes), "--seed", str(seed), "--json"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        wall = time.monotonic() - begun
        told = json.loads(done.stdout)
        pictures = limner.sample(limner.load(run), samples, seed=DRAWN, batch=250)
    return {"images": told["images"], "seconds": told["seconds"], "wall": wall, **verdict(pictures)}


def peer(name: str, minutes: float, seed: int, samples: int) -> dict[str, Any]:
    import peers

    data = digits()
    assert data.label is not None
    if name == "course":
        trained = peers.course(data.images, data.label, minutes, seed)
    else:
        trained = peers.tuned(data.images, data.label, minutes, seed, our_flops())
    about = {"images": trained.images, "wall": trained.seconds, "flops": trained.flops, "precision": trained.precision}
    return about | verdict(trained.draw(samples, DRAWN))


def our_flops() -> float:
    """Of one forward pass of the defaults."""
    import torch

    from limner.contracts import Condition, Level
    from limner.recipes import flow
    from limner.training.costs import counted

    data = digits()
    net = flow().lesson(data.spec, data.labels, data.sigma_data).model.net
    one = torch.ones(1)
    return counted(lambda: net(torch.zeros(1, *data.spec.shape), Level(one, one), Condition(torch.zeros(1).long())))


def verdict(pictures: np.ndarray) -> dict[str, Any]:
    return asdict(judge(pictures, np.arange(len(pictures)) % 10))


def main(args: Args) -> None:
    cells: Cells = json.loads(args.out.read_text()) if args.out.exists() else {}

    def keep(name: str, make: Any) -> dict[str, Any]:
        if name not in cells:
            cells[name] = make()
            write_json(args.out, cells)
            print(name, {k: v for k, v in cells[name].items() if k != "seconds"}, file=sys.stderr, flush=True)
        return cells[name]

    keep("held out", lambda: asdict(held_out()))
    for minutes in args.minutes:
        for i, seed in enumerate(args.seeds):
            keep(f"limner {minutes:g} min seed {seed}", lambda m=minutes, s=seed: ours(m, s, args.samples))
            for name in args.peers if i < len(args.peer_seeds) else ():
                count = args.course_samples if name == "course" else args.samples
                other = args.peer_seeds[i]
                keep(
                    f"{name} {minutes:g} min seed {other}", lambda n=name, m=minutes, s=other, c=count: peer(n, m, s, c)
                )
    if args.reach:
        reach(args, cells, keep)
    print(table(cells))


def reach(args: Args, cells: Cells, keep: Any) -> None:
    goal = statistics.median(cell["fd"] for name, cell in cells.items() if name.startswith("limner 3 min"))
    for name in args.peers:
        for minutes in (5.0, 10.0, 20.0, 40.0, 60.0):
            count = args.course_samples if name == "course" else args.samples
            cell = keep(f"{name} {minutes:g} min seed 1", lambda n=name, m=minutes, c=count: peer(n, m, 1, c))
            if cell["fd"] <= goal:
                break


def table(cells: Cells) -> str:
    """Markdown: medians over seeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, cell in cells.items():
        groups.setdefault(name.split(" seed ")[0], []).append(cell)
    columns = ("fd", "precision", "recall", "coverage", "near_copies", "read")
    lines = [
        "| what | seeds | images | wall s | " + " | ".join(columns) + " |",
        "|---" * (4 + len(columns)) + "|",
    ]
    for name, group in groups.items():
        medians = [statistics.median(cell[c] for cell in group) for c in columns]
        images = statistics.median(cell.get("images", 0) for cell in group)
        wall = statistics.median(cell.get("wall", 0) for cell in group)
        shown = [f"{medians[0]:.2f}", *(f"{value:.4f}" for value in medians[1:])]
        lines.append(f"| {name} | {len(group)} | {images:,.0f} | {wall:.0f} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Args))
