"""Runs the demo as a user does and reads what it draws.

    python benchmarks/demo.py --make            # with a fresh .venv, as `make demo`
    python benchmarks/demo.py                   # `limner demo` alone

Prints the seconds to the report, and how many of 1,000 samples a reader of real renderings reads as asked. The reader
is first measured on two typefaces that neither it nor the generator has seen.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

import limner
from glyph_judge import judge


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        make: time `make demo` in a fresh copy of the repository's files, its .venv made anew.
        minutes: of the demo's training, where make is off; its default otherwise.
        samples: to read.
        run: read the samples of this finished run; nothing is trained.
    """

    make: bool = False
    minutes: float | None = None
    samples: int = 1000
    run: Path | None = None


def by_make() -> tuple[Path, float]:
    root = Path(__file__).resolve().parents[1]
    copy = Path(tempfile.mkdtemp(prefix="limner-demo-"))
    files = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in files:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, copy / name)
    begun = time.monotonic()
    subprocess.run(["make", "demo"], cwd=copy, check=True)
    return copy / "runs" / "demo", time.monotonic() - begun


def by_command(minutes: float | None) -> tuple[Path, float]:
    out = Path(tempfile.mkdtemp(prefix="limner-demo-")) / "demo"
    extra = [] if minutes is None else ["--minutes", str(minutes)]
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "limner.cli", "demo", "--out", str(out), *extra], check=True)
    return out, time.monotonic() - begun


def main(args: Args) -> None:
    run, seconds = (args.run, 0.0) if args.run else by_make() if args.make else by_command(args.minutes)
    reader, about = judge(seed=0)
    model = limner.load(run)
    pictures = limner.sample(model, args.samples, seed=4242)
    asked = np.arange(args.samples) % len(model.labels)
    assert tuple(model.labels) == tuple(reader.labels), "the reader and the generator name their classes alike"
    read = reader.read(pictures)
    right = reader.merged(read) == reader.merged(asked)
    done = json.loads((run / "done.json").read_text())
    rows = json.loads((run / "measures.json").read_text())["rows"]
    print(
        json.dumps(
            {
                "seconds_to_report": round(seconds, 1),
                "read_as_asked": round(float(right.mean()), 4),
                "reader_on_held_out_typefaces": about["merged"],
                "images": done["images"],
                "seconds": done["seconds"],
                "measures": {row["name"]: round(row["value"], 4) for row in rows},
                "run": str(run),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
