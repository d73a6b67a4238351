"""Images per second of the Trainer against a plain loop over the same network, and of the defaults against a peer.

    python benchmarks/training_speed.py --seconds 20 --rounds 5

1. The same ``nn.Module`` in the Trainer (average, logging, sampling on) and in a loop as diffusers' training scripts
   have it (random noise, MSE, AdamW, gradient clipping, ``EMAModel``, cosine rate), at the same precision and batch.
2. The defaults of recipe ``flow`` against a diffusers ``UNet2DModel`` on equally unshuffled pixels whose counted
   FLOPs are the same to 5 %, in that same plain loop.

Rounds alternate between the sides, so that a slower minute of the machine hits both; medians of the ratios are told.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from limner import random
from limner.contracts import Condition, Level
from limner.data import NO_AUGMENT, Dataset, gather, open_dataset, order
from limner.objectives import Batch
from limner.recipes import flow
from limner.training.costs import counted
from limner.training.tracking import Bar, Tracker
from limner.training.trainer import Trainer
from limner.training.watching import Watcher


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        data: the pictures.
        seconds: of training, a side and round.
        rounds: alternations.
        batch: images of a step, on every side.
        profile: also print where the Trainer's time goes.
        memory: only print the peak memory of this side (ours, peer), for the parent process.
    """

    data: str = "mnist"
    seconds: float = 15.0
    rounds: int = 5
    batch: int = 128
    profile: bool = False
    memory: str = ""


def ours(dataset: Dataset, batch: int, folder: Path) -> Callable[[float], float]:
    """The Trainer with all that a run does beside: returns a function from seconds to images per second."""
    recipe = flow()
    recipe = replace(recipe, training=replace(recipe.training, batch=batch))
    with random.scoped(0, "init"):
        lesson = recipe.lesson(dataset.spec, dataset.labels, dataset.stats)

    def batches(first: int, count: int) -> Batch:
        samples = torch.arange(first, first + count)
        images, label = gather(
            dataset, order(0, first, count, len(dataset)), augment=recipe.augment, seed=0, samples=samples
        )
        return Batch(images, Condition(label), samples)

    trainer = Trainer(lesson.objective, recipe.training, batches, images=2_000_000, precision="float32", seed=0)
    watcher = Watcher(folder, dataset, 40, "wavelets", 0, None)
    tracker = Tracker(folder, 0)
    model = lesson.model_of(trainer.state.ema.modules[lesson.network])

    def go(seconds: float) -> float:
        begun, first, shown = time.monotonic(), trainer.progress.seen, time.monotonic()
        drawn = False
        with Bar(2_000_000, first, show=False) as bar:
            while (now := time.monotonic()) - begun < seconds:
                logged = trainer.iterate()
                if now - shown > 1:
                    shown = now
                    values = {name: float(value) for name, value in logged.items()}
                    tracker.scalars(trainer.progress.seen, now - begun, values)
                    bar.update(trainer.progress.seen, 0.0, values["loss"])
                if not drawn and now - begun > seconds / 2:
                    # A grid takes the share of the time that a run's plan gives it: one in about five minutes' work.
                    drawn = True
                    if seconds >= 60:
                        watcher.draw_grid(model, "speed")
        return (trainer.progress.seen - first) / (time.monotonic() - begun)

    return go


def plain(net: Callable[[Tensor, Tensor, Tensor], Tensor], module: nn.Module, dataset: Dataset, batch: int,
          unshuffle: int) -> Callable[[float], float]:  # fmt: skip
    """A loop as diffusers' training scripts have it, around ``net(x, t, label)``."""
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel

    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    schedule = get_cosine_schedule_with_warmup(optimizer, 100, 20_000)
    ema = EMAModel(module.parameters(), decay=0.999)
    loader = torch.utils.data.DataLoader(Pictures(dataset), batch_size=batch, shuffle=True, drop_last=True)
    stream = iter(())

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
                x = F.pixel_unshuffle(x, unshuffle)
            x = x.contiguous(memory_format=torch.channels_last)
            noise, t = torch.randn_like(x), torch.rand(len(x))
            level = t.reshape(-1, 1, 1, 1)
            loss = F.mse_loss(net((1 - level) * x + level * noise, t, label), noise - x)
            loss.backward()
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


def our_module(dataset: Dataset) -> tuple[Callable[[Tensor, Tensor, Tensor], Tensor], nn.Module]:
    """The network of the defaults, as a function of (x, t, label)."""
    with random.scoped(0, "init"):
        net = flow().lesson(dataset.spec, dataset.labels, dataset.stats).model.net

    def velocity(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        at = Level(1 - t, t)
        prediction = net(x, at, Condition(label))
        return (x - prediction.x0) / t.reshape(-1, 1, 1, 1).clamp_min(0.02)

    return velocity, net


def peer_module(dataset: Dataset, target: float) -> tuple[Callable[[Tensor, Tensor, Tensor], Tensor], nn.Module, float]:
    """diffusers' UNet2DModel on 2x2 unshuffled pixels, of two resolutions, its width chosen to count as ``target``."""
    from diffusers import UNet2DModel

    channels, (height, width) = dataset.spec.channels * 4, dataset.spec.size
    best: tuple[float, nn.Module, float] | None = None
    for base in range(16, 65, 4):
        for blocks in (1, 2):
            module = UNet2DModel(
                sample_size=(height // 2, width // 2), in_channels=channels, out_channels=channels,
                layers_per_block=blocks, block_out_channels=(base, 2 * base), norm_num_groups=4,
                down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
                num_class_embeds=max(len(dataset.labels), 1), add_attention=False,
            )  # fmt: skip
            x = torch.zeros(1, channels, height // 2, width // 2)
            flops = counted(lambda module=module, x=x: module(x, torch.zeros(1), torch.zeros(1).long()))
            if best is None or abs(flops - target) < abs(best[0] - target):
                best = (flops, module, flops)
    assert best is not None
    module = best[1].to(memory_format=torch.channels_last)

    def velocity(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        out: Tensor = module(x, t * 1000, label).sample
        return out

    return velocity, module, best[0]


def our_flops(dataset: Dataset) -> float:
    net, _ = our_module(dataset)
    return counted(lambda: net(torch.zeros(1, *dataset.spec.shape), torch.ones(1), torch.zeros(1).long()))


def peak_memory(side: str, args: Args) -> int:
    """Of a fresh process that trains only this side."""
    command = [sys.executable, __file__, "--memory", side, "--seconds", "8", "--data", args.data]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def main(args: Args) -> None:
    dataset = open_dataset(args.data, progress=False)
    target = our_flops(dataset)
    with tempfile.TemporaryDirectory() as folder:
        if args.memory:
            if args.memory == "ours":
                ours(dataset, args.batch, Path(folder))(args.seconds)
            else:
                velocity, module, _ = peer_module(dataset, target)
                plain(velocity, module, dataset, args.batch, 2)(args.seconds)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            return
        same, same_module = our_module(dataset)
        velocity, module, flops = peer_module(dataset, target)
        sides = {
            "Trainer, recipe flow": ours(dataset, args.batch, Path(folder)),
            "plain loop, same network": plain(same, same_module, dataset, args.batch, 1),
            "plain loop, diffusers UNet2DModel": plain(velocity, module, dataset, args.batch, 2),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for go in sides.values():
            go(3)
        for _ in range(args.rounds):
            for name, go in sides.items():
                rates[name].append(go(args.seconds))
        if args.profile:
            profile(sides["Trainer, recipe flow"])
    names = list(sides)
    print("| side | forward FLOPs an image | images/s (median) | ours / this (median of ratios) |\n|---|---|---|---|")
    for name in names:
        ratio = statistics.median(a / b for a, b in zip(rates[names[0]], rates[name], strict=True))
        count = flops if "UNet2D" in name else target
        print(f"| {name} | {count / 1e6:.1f} M | {statistics.median(rates[name]):.0f} | {ratio:.2f} |")
    print(f"peak memory: ours {peak_memory('ours', args) / 2**20:.0f} MiB, "
          f"peer {peak_memory('peer', args) / 2**20:.0f} MiB")  # fmt: skip


def profile(go: Callable[[float], float]) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        go(4)
    print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


if __name__ == "__main__":
    main(tyro.cli(Args))
