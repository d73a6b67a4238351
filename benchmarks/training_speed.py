"""Images per second of the Trainer against a plain loop over the same network, and of the defaults against a peer.

    python benchmarks/training_speed.py --seconds 6 --rounds 20

1. The same ``nn.Module`` in the Trainer, as ``limner train`` runs it (average, logging and grids on), and in a loop as
   diffusers' training scripts have it (random noise, MSE, AdamW, gradient clipping, ``EMAModel``, cosine rate), at the
   same precision and batch.
2. The defaults of recipe ``flow`` against a diffusers ``UNet2DModel`` on equally unshuffled pixels whose counted
   FLOPs are the same to 5 %, in that same plain loop.

Every side is a process of its own, and they take turns of a few seconds while the others wait, so that a slower minute
of the machine hits all of them; medians of the ratios are told, and the most memory that a side needed.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from limner.allocator import keep_freed_memory
from limner.contracts import Condition, Level, Precision, arithmetic
from limner.data import NO_AUGMENT, Dataset, gather, open_dataset, order
from limner.distributed import ALONE
from limner.recipes import Size, recipe
from limner.training.costs import counted
from limner.training.opening import batches_of, lesson_of
from limner.training.tracking import Bar, Tracker
from limner.training.trainer import Trainer
from limner.training.watching import Watcher


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        data: the pictures.
        seconds: of training, a turn.
        rounds: turns of each side.
        size: of the recipe.
        profile: also print where the Trainer's time goes.
        side: only measure this side, for the parent process.
    """

    data: str = "mnist"
    seconds: float = 6.0
    rounds: int = 20
    size: Size = "tiny"
    profile: bool = False
    side: Literal["", "trainer", "same", "peer"] = ""


Training = Callable[[float], float]
"""Trains on for so many seconds and returns images per second."""
#: Seconds of training for each pair of grids: 2 % of a budget go into them.
GRIDS_APART = 40.0


def ours(dataset: Dataset, size: Size, folder: Path, name: str = "flow", precision: Precision = "float32") -> Training:
    """The Trainer with all that a run does beside."""
    keep_freed_memory()  # as every run does
    settings = recipe(name, size)
    lesson = lesson_of(settings, dataset, ALONE)
    batches = batches_of(settings, dataset, ALONE, labelled=True)
    trainer = Trainer(lesson.objective, settings.training, batches, images=2_000_000, precision=precision, seed=0)
    showing = lesson.showing(dataset, 0, ALONE)
    watcher = Watcher(folder, dataset, settings.watch.pictures, "wavelets", 0, None, ALONE, showing)
    tracker = Tracker(folder, 0)
    averaged = lesson.model_of(trainer.state.ema.modules[lesson.network])
    trained, next_grids = 0.0, GRIDS_APART / 2

    def go(seconds: float) -> float:
        nonlocal trained, next_grids
        begun, first, shown = time.monotonic(), trainer.progress.seen, time.monotonic()
        with Bar(first, show=False) as bar:
            while (now := time.monotonic()) - begun < seconds:
                logged = trainer.iterate()
                if now - shown > 1:
                    shown = now
                    values = {name: float(value) for name, value in logged.items()}
                    tracker.scalars(trainer.progress.seen, now - begun, values)
                    bar.update(trainer.progress.seen, 0.0, values["loss"])
                if trained + now - begun > next_grids:
                    next_grids += GRIDS_APART
                    for name, model in (("averaged", averaged), ("raw", lesson.model)):
                        tracker.pictures(trainer.progress.seen, name, watcher.draw_grid(model, name))
        spent = time.monotonic() - begun
        trained += spent
        return (trainer.progress.seen - first) / spent

    return go


def plain(net: Callable[[Tensor, Tensor, Tensor], Tensor], module: nn.Module, dataset: Dataset, batch: int,
          unshuffle: int, precision: Precision = "float32") -> Training:  # fmt: skip
    """A loop as diffusers' training scripts have it, around ``net(x, t, label)``."""
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel

    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    schedule = get_cosine_schedule_with_warmup(optimizer, 100, 20_000)
    ema = EMAModel(module.parameters(), decay=0.999)
    loader = torch.utils.data.DataLoader(Pictures(dataset), batch_size=batch, shuffle=True, drop_last=True)
    stream: Iterator[tuple[Tensor, Tensor]] = iter(())

    def go(seconds: float) -> float:
        nonlocal stream
        begun, count = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            try:
                x, label = next(stream)
            except StopIteration:
                stream = iter(loader)
                continue
            if unshuffle > 1:
                x = F.pixel_unshuffle(x, unshuffle).contiguous(memory_format=torch.channels_last)
            noise, t = torch.randn_like(x), torch.rand(len(x))
            level = t.reshape(-1, 1, 1, 1)
            with arithmetic(x.device, precision):
                said = net((1 - level) * x + level * noise, t, label)
            loss = F.mse_loss(said.float(), noise - x)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            ema.step(module.parameters())
            count += len(x)
        return count / (time.monotonic() - begun)

    return go


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """As the scripts have it: one picture at a time, from arrays in memory."""

    def __init__(self, dataset: Dataset) -> None:
        images, label = gather(
            dataset, order(0, 0, len(dataset), len(dataset)), augment=NO_AUGMENT, seed=0, samples=torch.arange(1)
        )
        assert label is not None
        self.images, self.label = images.contiguous(), label.tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.images[i], self.label[i]


def our_module(dataset: Dataset, size: Size) -> tuple[Callable[[Tensor, Tensor, Tensor], Tensor], nn.Module]:
    """The network of the defaults, as a function of (x, t, label)."""
    net = lesson_of(recipe("flow", size), dataset, ALONE).model.net

    def velocity(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        x0: Tensor = net(x, Level(1 - t, t), Condition(label)).x0
        return (x - x0) / t.reshape(-1, 1, 1, 1).clamp_min(0.02)

    return velocity, net


def our_flops(dataset: Dataset, size: Size) -> float:
    net, _ = our_module(dataset, size)
    return counted(lambda: net(torch.zeros(1, *dataset.spec.shape), torch.ones(1), torch.zeros(1).long()))


def peer_module(target: float) -> tuple[Callable[[Tensor, Tensor, Tensor], Tensor], nn.Module]:
    """The library's U-Net of the tuned peer: on 2x2 unshuffled digits, as wide as counts as ``target`` FLOPs."""
    import peers

    how = peers.Tuning()
    module = peers.unet(peers.sized(target, how)[0], how).to(memory_format=torch.channels_last)  # type: ignore[call-arg]

    def velocity(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        out: Tensor = module(x, t * 1000, label).sample
        return out

    return velocity, module


def training(side: str, dataset: Dataset, size: Size, folder: Path) -> Training:
    batch = recipe("flow", size).training.batch
    if side == "trainer":
        return ours(dataset, size, folder)
    if side == "same":
        return plain(*our_module(dataset, size), dataset, batch, 1)
    return plain(*peer_module(our_flops(dataset, size)), dataset, batch, 2)


class Turns:
    """A process that works on one side when it is told to; ``options`` are its script and what tells it its side."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def take(self, seconds: float) -> dict[str, float]:
        """Images per second of so long a turn, and the most memory so far."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(seconds, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a side has stopped; its message is above")
        told: dict[str, float] = json.loads(line)
        return told


def take_turns(go: Training) -> None:
    """What the process of a side does: train for as many seconds as each line of the standard input says."""
    for line in sys.stdin:
        rate = go(float(line))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"rate": rate, "peak": peak}), flush=True)


SIDES = {
    "trainer": "Trainer, recipe flow",
    "same": "plain loop, same network",
    "peer": "plain loop, diffusers UNet2DModel",
}


def main(args: Args) -> None:
    dataset = open_dataset(args.data, progress=False)
    if args.side or args.profile:
        with tempfile.TemporaryDirectory() as folder:
            go = training(args.side or "trainer", dataset, args.size, Path(folder))
            work(go, profiled=args.profile)
        return
    sides = {side: Turns(__file__, "--side", side, "--data", args.data, "--size", args.size) for side in SIDES}
    for one in sides.values():
        one.take(3)
    told = [{side: one.take(args.seconds) for side, one in sides.items()} for _ in range(args.rounds)]
    for one in sides.values():
        one.process.communicate()
    import peers

    target = our_flops(dataset, args.size)
    flops = {"trainer": target, "same": target, "peer": peers.sized(target, peers.Tuning())[1]}
    print("| side | forward MFLOPs an image | images/s (median) | ours / this (median of ratios) | peak MiB |")
    print("|---|---|---|---|---|")
    for side, name in SIDES.items():
        ratio = statistics.median(turn["trainer"]["rate"] / turn[side]["rate"] for turn in told)
        rate, peak = statistics.median(turn[side]["rate"] for turn in told), max(turn[side]["peak"] for turn in told)
        print(f"| {name} | {flops[side] / 1e6:.1f} | {rate:.0f} | {ratio:.2f} | {peak:.0f} |")


def work(go: Training, *, profiled: bool) -> None:
    """What a process does with its side."""
    if profiled:
        go(3)
        profile(go)
    else:
        take_turns(go)


def profile(go: Training) -> None:
    """Where the Trainer's time goes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        go(4)
    print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=40))


if __name__ == "__main__":
    main(tyro.cli(Args))
