"""Quality against evaluations of the network: every solver on trained runs, from 1 to 64 evaluations a picture.

    python benchmarks/steps.py --data mnist --extractor lenet --runs flow=runs/a few=runs/b --solvers euler heun jump

The same seeds and labels for all, the runs' own guidance and discretization. Fréchet distances against the whole data
set; what is in the JSON already is not drawn again. The plot has a panel a data set and a line a run and solver.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from limner import load, load_extractor, open_dataset
from limner.contracts import FlowMap, Model, RefineConfig
from limner.data.cache import cache_root
from limner.errors import UserError
from limner.files import write_json
from limner.metrics import evaluate
from limner.sampling import SOLVERS, evaluations, sample

Cells = dict[str, dict[str, Any]]
"""By data set, run, solver and evaluations."""


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        runs: NAME=RUN, one or more.
        data: the pictures that the runs were trained on.
        extractor: what looks at the pictures.
        solvers: of which those that a run can take are measured.
        evaluations: of the network, a picture; a solver that needs two a step takes as many steps as they allow.
        count: pictures of each cell.
        seed: of all.
        out: where the figures are kept.
        plot: where they are drawn.
    """

    runs: tuple[str, ...]
    data: str = "mnist"
    extractor: str = "lenet"
    solvers: tuple[str, ...] = tuple(SOLVERS)
    evaluations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    count: int = 2_000
    seed: int = 0
    out: Path = Path("build/steps.json")
    plot: Path = Path("build/steps.png")


def fitting(model: Model, solver: str, allowed: int) -> RefineConfig | None:
    """The run's own settings with the most steps of the solver that cost no more evaluations, guidance included."""
    if (solver == "jump") != isinstance(model.net, FlowMap):
        return None
    assert isinstance(model.defaults, RefineConfig)
    config = replace(model.defaults, solver=solver)
    steps = [n for n in range(1, allowed + 1) if evaluations(replace(config, steps=n)) <= allowed]
    return replace(config, steps=max(steps)) if steps else None


def main(args: Args) -> None:
    cells: Cells = json.loads(args.out.read_text()) if args.out.exists() else {}
    real = open_dataset(args.data)
    extractor = load_extractor(args.extractor, shape=real.images.shape[1:])
    for name, folder in (one.split("=", 1) for one in args.runs):
        model = load(folder)
        for solver in args.solvers:
            for allowed in args.evaluations:
                config = fitting(model, solver, allowed)
                key = f"{args.data}/{name}/{solver}/{allowed}"
                if config is None or key in cells:
                    continue
                begun = time.monotonic()
                try:
                    drawn = sample(model, args.count, seed=args.seed, config=config)
                except UserError as error:
                    print(f"{key}: {error}", flush=True)
                    continue
                spent = time.monotonic() - begun
                report = evaluate(
                    drawn, real, extractor=extractor, metrics=("fd", "recall"), cache=cache_root(None) / "measures"
                )
                cells[key] = {
                    "fd": report.value("fd"),
                    "recall": report.value("recall"),
                    "steps": config.steps,
                    "pictures_per_second": args.count / spent,
                    "extractor": args.extractor,
                    "count": args.count,
                }
                write_json(args.out, cells)
                print(f"{key}: {json.dumps(cells[key])}", flush=True)
    plot(args, cells)


def plot(args: Args, cells: Cells) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    sets = sorted({key.split("/")[0] for key in cells})
    figure = Figure(figsize=(5.5 * len(sets), 4.5), layout="constrained")
    for axes, data in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        seen = {}
        for key, cell in cells.items():
            here, name, solver, allowed = key.split("/")
            if here == data:
                seen[f"{cell['extractor']}, {cell['count']:,} pictures"] = True
                lines.setdefault(f"{name}, {solver}", []).append((int(allowed), float(cell["fd"])))
        for label, points in sorted(lines.items()):
            axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=3, label=label)
        axes.set(xscale="log", yscale="log", xlabel="evaluations of the network a picture, guidance included")
        axes.set(title=f"{data}: {'; '.join(seen)}", ylabel="Fréchet distance")
        axes.set_xticks(args.evaluations, labels=[str(n) for n in args.evaluations])
        for formatted in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            formatted(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "1235" else ""))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    args.plot.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.plot, dpi=150)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(tyro.cli(Args))
