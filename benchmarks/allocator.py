"""A training step with freed memory returned to the system, as the C library does by itself, and kept.

    python benchmarks/allocator.py --rounds 3

Every side of every round is a process of its own, and the sides take turns; medians over the rounds.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import torch
import tyro

from limner.allocator import keep_freed_memory
from limner.contracts import ImageSpec
from limner.models import UNet, UNetConfig

#: Width, pixel-unshuffle and batch of a network, and the steps that are timed.
CASES = ((16, 2, 64, 60), (64, 1, 128, 4))
SIDES = ("returned", "kept")


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        rounds: alternations.
        case: only measure this case, for the parent process.
        side: which one.
    """

    rounds: int = 3
    case: int = -1
    side: str = "returned"


def one(case: int, side: str) -> dict[str, float]:
    """A step's page faults, milliseconds in the kernel and milliseconds, and the peak in MiB."""
    if side == "kept" and not keep_freed_memory():
        raise SystemExit("this C library does not know how")
    width, unshuffle, batch, steps = CASES[case]
    torch.manual_seed(0)
    net = UNet(UNetConfig(width=width, multipliers=(1, 2), unshuffle=unshuffle), ImageSpec(1, (28, 28), "L"), 10)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    x, noise, label = torch.randn(batch, 1, 28, 28), torch.rand(batch), torch.zeros(batch).long()

    def step() -> float:
        begun = time.perf_counter()
        net(x, noise, label).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        return 1000 * (time.perf_counter() - begun)

    for _ in range(6):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF)
    times = [step() for _ in range(steps)]
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "faults": (after.ru_minflt - before.ru_minflt) / steps,
        "kernel": 1000 * (after.ru_stime - before.ru_stime) / steps,
        "ms": statistics.median(times),
        "peak": after.ru_maxrss / 1024,
    }


def main(args: Args) -> None:
    if args.case >= 0:
        print(json.dumps(one(args.case, args.side)))
        return
    print("| width, batch | freed memory | page faults a step | ms in the kernel | ms a step | peak MiB |")
    print("|---|---|---|---|---|---|")
    for case, (width, unshuffle, batch, _) in enumerate(CASES):
        told: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(args.rounds):
            for side in SIDES:
                command = [sys.executable, __file__, "--case", str(case), "--side", side]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                told[side].append(json.loads(done.stdout))
        for side in SIDES:
            faults, kernel, ms, peak = (
                statistics.median(r[name] for r in told[side]) for name in ("faults", "kernel", "ms", "peak")
            )
            print(
                f"| {width} on {unshuffle}×{unshuffle} unshuffled pixels, {batch} | {side} "
                f"| {faults:,.0f} | {kernel:.1f} | {ms:,.0f} | {peak:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Args))
