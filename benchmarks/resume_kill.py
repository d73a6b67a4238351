"""Kills a training with SIGKILL again and again, resumes it, and compares its end with that of an undisturbed run.

    python benchmarks/resume_kill.py --kills 20

The first kill comes while the run measures its budget, the second inside the write of a checkpoint, the others at
random moments. Then weights, averaged weights and optimiser state are compared bit for bit.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from limner.recipes import RECIPES, Size
from limner.tensors import load_tensors
from limner.training.checkpoint import checkpoints


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        kills: how many, a recipe.
        data: the pictures.
        minutes: budget of the run.
        size: of the recipe.
        seed: of the random moments.
        recipes: which; all by default.
        checkpoint_seconds: between checkpoints.
    """

    kills: int = 20
    data: str = "builtin:shapes"
    minutes: float = 1.0
    size: Size = "tiny"
    seed: int = 0
    recipes: tuple[str, ...] = tuple(RECIPES)
    checkpoint_seconds: float = 1.0


def limner(*args: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "limner.cli", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seen(run: Path) -> int:
    found = checkpoints(run / "checkpoints")
    return int(found[-1].stem) if found else 0


def while_measuring(run: Path) -> bool:
    """The settings are written, the plan is not."""
    path = run / "recipe.json"
    return path.exists() and json.loads(path.read_text())["plan"] is None


def while_saving(run: Path) -> bool:
    return any((run / "checkpoints").glob(".*.tmp"))


def wait_until(condition: object, process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it came true before the process ended or the time was up."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if callable(condition) and condition():
            return True
    return False


def disturbed(recipe: str, run: Path, args: Args) -> tuple[list[float], list[str]]:
    """Kill and resume; the seconds of work that each kill cost, and what it interrupted."""
    chance = random.Random(args.seed)
    start = ("train", recipe, "--data", args.data, "--out", run, "--minutes", args.minutes, "--size", args.size,
             "--training.checkpoint-seconds", args.checkpoint_seconds, "--watch.judge", 0)  # fmt: skip
    lost, moments = [], []
    for kill in range(args.kills):
        process = limner(*start) if kill == 0 else limner("train", "--resume", run)
        if kill == 0:
            hit = wait_until(lambda: while_measuring(run), process, 120)
            time.sleep(chance.uniform(0.2, 1.0))
            moments.append("measuring its budget" if hit and while_measuring(run) else "missed: measuring")
        elif kill == 1:
            hit = wait_until(lambda: while_saving(run), process, 120)
            moments.append("writing a checkpoint" if hit else "missed: writing")
        else:
            first = seen(run)
            wait_until(lambda first=first: seen(run) > first, process, 120)
            time.sleep(chance.uniform(0.0, args.checkpoint_seconds))
            moments.append("training")
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = checkpoints(run / "checkpoints")
        newest = found[-1].stat().st_mtime if found else (run / "recipe.json").stat().st_mtime
        lost.append(time.time() - newest)
        if (run / "done.json").exists():
            break
    process = limner("train", "--resume", run)
    assert process.wait() == 0, "the resumed run failed"
    return lost, moments


def main(args: Args) -> None:
    print("| recipe | kills | most work lost | tensors | different bits |\n|---|---|---|---|---|")
    for recipe in args.recipes:
        with tempfile.TemporaryDirectory() as folder:
            run, whole = Path(folder) / "killed", Path(folder) / "whole"
            lost, moments = disturbed(recipe, run, args)
            plan = json.loads((run / "recipe.json").read_text())["plan"]
            process = limner("train", recipe, "--data", args.data, "--out", whole, "--images", plan["images"],
                             "--size", args.size, "--training.precision", plan["precision"],
                             "--watch.judge", 0)  # fmt: skip
            assert process.wait() == 0, "the undisturbed run failed"
            a, b = (load_tensors(checkpoints(one / "checkpoints")[-1])[0] for one in (run, whole))
            assert a.keys() == b.keys()
            different = sum(not torch.equal(value, b[name]) for name, value in a.items())
            print(f"| {recipe} | {len(lost)} | {max(lost):.1f} s | {len(a)} | {different} |", flush=True)
            print(f"  moments: {', '.join(moments)}", file=sys.stderr)
            assert different == 0


if __name__ == "__main__":
    main(tyro.cli(Args))
