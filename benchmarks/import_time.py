"""Seconds that a fresh Python takes to import torch, limner, and limner with what training and drawing need.

    python benchmarks/import_time.py [--rounds 15]

``import limner`` loads a name's module when the name is first used, so it is light by itself; the last row is the
honest one. The sides take turns; ratios are of medians.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import tyro

SIDES = (
    "import torch",
    "import limner",
    "from limner import evaluate, load, open_dataset, sample, train",
)


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        rounds: turns of each side; one more, before them, warms the disk's cache.
    """

    rounds: int = 15


def seconds(line: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", line], check=True)
    return time.perf_counter() - began


def main(args: Args) -> None:
    turns = [[seconds(line) for line in SIDES] for _ in range(args.rounds + 1)][1:]
    medians = [statistics.median(turn) for turn in zip(*turns, strict=True)]
    print("| in a fresh Python | s | / import torch |\n|---|---|---|")
    for line, median in zip(SIDES, medians, strict=True):
        print(f"| `{line}` | {median:.2f} | {median / medians[0]:.2f} |")


if __name__ == "__main__":
    main(tyro.cli(Args))
