"""What a training costs by size and by number of processes: counted, measured here, and computed for clusters.

    python benchmarks/scaling.py                     # counted and computed: needs no time
    python benchmarks/scaling.py --measure tiny small   # also measured on this machine

Counted: parameters, floating-point operations and saved activations of the recipe's networks, on shapes alone.
Measured: images a second of one process with one thread, one with two threads, and two with one thread each, in turns
of a few seconds, so that a slower minute of the machine hits all of them. Computed: the formulae of
``docs/scaling.md``.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import tyro
from torch import Tensor, nn

from limner.contracts import Condition, DataStats, ImageSpec, Level, Model
from limner.data import open_dataset
from limner.distributed import World, join
from limner.recipes import SIZES, RefineRecipe, Size, recipe
from limner.shards import is_sharded, local
from limner.training.costs import counted
from limner.training.opening import batches_of, lesson_of
from limner.training.trainer import Trainer

#: One NVIDIA H100 SXM: dense bfloat16 peak, the share of it that is assumed, NVLink within a node of eight, and the
#: network between nodes, a GPU and direction.
PEAK, UTILISATION, WITHIN, BETWEEN, NODE = 989e12, 0.4, 450e9, 50e9, 8
WORLDS = (8, 64, 256, 1024)


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        recipe: whose networks.
        pixels: side of the square RGB pictures that are counted on.
        batch: images that each GPU sees a step, in the computed tables.
        measure: sizes to measure here.
        data: the pictures for measuring.
        seconds: of a turn.
        rounds: turns of each.
        side: only train as this, for the parent process: "none" or "full", as --training.shard.
        size: of that side.
    """

    recipe: str = "flow"
    pixels: int = 64
    batch: int = 64
    measure: tuple[Size, ...] = ()
    data: str = "builtin:shapes"
    seconds: float = 5.0
    rounds: int = 8
    side: str = ""
    size: Size = "tiny"


@dataclass(frozen=True)
class Cost:
    """Of one network: parameters, those of them in matrices that Muon moves, the largest part that FSDP puts together
    at once, operations of a forward pass of one image, and bytes of activations saved for one image's backward pass."""

    parameters: int
    matrices: int
    part: int
    forward: float
    activations: float


def model(name: str, size: Size, pixels: int) -> tuple[Model, dict[str, torch.optim.Optimizer]]:
    """On no device: shapes are enough to count."""
    settings = recipe(name, size)
    assert isinstance(settings, RefineRecipe)
    settings = replace(settings, sampling=replace(settings.sampling, guidance=1.0))  # which would look at levels
    with torch.device("meta"):
        lesson = settings.lesson(ImageSpec(3, (pixels, pixels), "RGB"), tuple("0123456789"), DataStats((0.0,) * 3, 0.5))
    return lesson.model, lesson.objective.optimizers()


def cost(name: str, size: Size, pixels: int) -> Cost:
    made, optimizers = model(name, size, pixels)
    net, n = made.net, 2
    with torch.device("meta"):
        given = torch.zeros(n, 3, pixels, pixels), Level(torch.ones(n), torch.ones(n)), Condition(torch.zeros(n).long())
    forward = counted(lambda: net(*given)) / n
    saved: dict[int, float] = {}
    own = {p.untyped_storage()._cdata for p in net.parameters()}

    def note(tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in own:
            saved[key] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = net(*given).x0  # held, so that no storage's number is used twice
    del out
    matrices = sum(p.numel() for key, o in optimizers.items() if "muon" in key for p in o.param_groups[0]["params"])
    blocks = [one for m in net.modules() if isinstance(m, nn.ModuleList) for one in m]
    part = max((sum(p.numel() for p in one.parameters()) for one in blocks), default=0)
    total = sum(p.numel() for p in net.parameters())
    return Cost(total, matrices, part, forward, sum(saved.values()) / n)


def state_bytes(one: Cost, processes: int) -> float:
    """Weights, gradients, average and optimiser state of a process, float32, in parts if there are several."""
    optimiser = 4 * one.matrices + 8 * (one.parameters - one.matrices)
    return (12 * one.parameters + optimiser) / processes


def seconds(one: Cost, processes: int, batch: int, shard: bool) -> tuple[float, float]:
    """(computing, talking) of a step."""
    computing = 3 * one.forward * batch / (PEAK * UTILISATION)
    share = (processes - 1) / processes
    sent = (12 * one.parameters + 4 * one.matrices if shard else 8 * one.parameters) * share
    return computing, sent / (WITHIN if processes <= NODE else BETWEEN)


def tables(args: Args) -> None:
    costs = {size: cost(args.recipe, size, args.pixels) for size in SIZES}
    print(f"Recipe {args.recipe}, {args.pixels}x{args.pixels} RGB, ten classes\n")
    print("| size | parameters | in Muon's matrices | GFLOPs, a training image | activations, an image, float32 |")
    print("|---|---|---|---|---|")
    for size, one in costs.items():
        print(
            f"| {size} | {one.parameters / 1e6:.2f} M | {one.matrices / one.parameters:.0%} | "
            f"{3 * one.forward / 1e9:.2f} | {one.activations / 2**20:.1f} MiB |"
        )
    print("\n| size | state, whole | + buffer of sums | in 8 parts | in 64 parts | largest part put together |")
    print("|---|---|---|---|---|---|")
    for size, one in costs.items():
        whole = state_bytes(one, 1)
        print(
            f"| {size} | {mib(whole)} | {mib(whole + 4 * one.parameters)} | {mib(state_bytes(one, 8))} | "
            f"{mib(state_bytes(one, 64))} | {mib(4 * one.part)} |"
        )
    print("\n| size | sent a step by each of many, whole | in parts |")
    print("|---|---|---|")
    for size, one in costs.items():
        print(f"| {size} | {mib(8 * one.parameters)} | {mib(12 * one.parameters + 4 * one.matrices)} |")
    for shard in (False, True):
        kind = "in parts, talking hidden behind computing" if shard else "whole, talking after computing"
        print(
            f"\n{args.batch} images a GPU and step, {kind}: thousand images/s (share of the time that is computing)\n"
        )
        print("| size | one GPU | " + " | ".join(f"{n:,}" for n in WORLDS) + " |")
        print("|---|---|" + "---|" * len(WORLDS))
        for size, one in costs.items():
            cells = []
            for n in (1, *WORLDS):
                computing, talking = seconds(one, n, args.batch, shard)
                step = max(computing, talking) if shard else computing + talking
                cells.append(f"{n * args.batch / step / 1e3:,.1f} ({computing / step:.0%})")
            print(f"| {size} | " + " | ".join(cells) + " |")


def mib(amount: float) -> str:
    return f"{amount / 2**30:.2f} GiB" if amount >= 2**30 else f"{amount / 2**20:.1f} MiB"


def trainer(args: Args, world: World) -> Trainer:
    settings = recipe(args.recipe, args.size)
    settings = replace(settings, training=replace(settings.training, shard=args.side))  # type: ignore[arg-type]
    dataset = open_dataset(args.data, progress=False)
    lesson = lesson_of(settings, dataset, world)
    batches = batches_of(settings, dataset, world, labelled=True)
    return Trainer(lesson.objective, settings.training, batches, images=10**9, precision="float32", seed=0, world=world)


def train_in_turns(args: Args) -> None:
    """What each process of a side does: train for as many seconds as each line of the standard input says."""
    world = join()
    run = trainer(args, world)
    run.iterate()
    for line in sys.stdin:
        begun, first = time.monotonic(), run.progress.seen
        while not world.most(int(time.monotonic() - begun >= float(line)))[0]:
            run.iterate()
        rate = (run.progress.seen - first) / (time.monotonic() - begun)
        print(json.dumps({"rate": rate, "held": held(run)}), flush=True)
    world.leave()


def held(run: Trainer) -> int:
    """Bytes of weights, gradients (as large as the weights they are of), averages and optimiser state that this process
    holds."""
    parameters = [*run.objective.parameters()]
    tensors = [*parameters, *parameters, *run.state.ema.modules.parameters()]
    for optimizer in run.state.optimizers.values():
        tensors += [v for state in optimizer.state.values() for v in state.values() if is_sharded(v) or v.ndim]
    return sum(local(tensor).numel() * tensor.element_size() for tensor in tensors)


class Turns:
    """The processes of a side, which train when they are told to."""

    def __init__(self, args: Args, size: Size, processes: int, threads: int, shard: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        command = [sys.executable, __file__, "--side", shard, "--size", size, "--data", args.data]
        shared = {"OMP_NUM_THREADS": str(threads), "WORLD_SIZE": str(processes), "MASTER_PORT": port}
        self.processes = [
            subprocess.Popen(
                [*command, "--recipe", args.recipe],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **shared, "MASTER_ADDR": "127.0.0.1", "RANK": str(rank)},
            )
            for rank in range(processes)
        ]

    def take(self, seconds: float) -> dict[str, float]:
        for one in self.processes:
            print(seconds, file=one.stdin, flush=True)
        lines = [one.stdout.readline() for one in self.processes if one.stdout is not None]
        if not all(lines):
            raise SystemExit("a side has stopped; its message is above")
        told: dict[str, float] = json.loads(lines[0])
        return told

    def end(self) -> None:
        for one in self.processes:
            one.communicate()


def measure(args: Args) -> None:
    sides: dict[str, Callable[[Size], Turns]] = {
        "1 process, 1 thread": lambda size: Turns(args, size, 1, 1, "none"),
        "1 process, 2 threads": lambda size: Turns(args, size, 1, 2, "none"),
        "2 processes, 1 thread each": lambda size: Turns(args, size, 2, 1, "none"),
        "2 processes, 1 thread each, in parts": lambda size: Turns(args, size, 2, 1, "full"),
    }
    print(f"\nMeasured, recipe {args.recipe}, {args.data}, {args.rounds} turns of {args.seconds:g} s, medians\n")
    print("| size | side | images/s | against 1 process, 2 threads (median of ratios) | state held by each |")
    print("|---|---|---|---|---|")
    for size in args.measure:
        made = {name: make(size) for name, make in sides.items()}
        for one in made.values():
            one.take(2)
        told = [{name: one.take(args.seconds) for name, one in made.items()} for _ in range(args.rounds)]
        for one in made.values():
            one.end()
        for name in made:
            rate = statistics.median(turn[name]["rate"] for turn in told)
            ratio = statistics.median(turn[name]["rate"] / turn["1 process, 2 threads"]["rate"] for turn in told)
            print(f"| {size} | {name} | {rate:.0f} | {ratio:.2f} | {mib(told[-1][name]['held'])} |", flush=True)


def main(args: Args) -> None:
    if args.side:
        train_in_turns(args)
        return
    tables(args)
    if args.measure:
        measure(args)


if __name__ == "__main__":
    main(tyro.cli(Args))
