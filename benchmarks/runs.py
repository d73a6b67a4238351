"""Trainings as a user runs them: by the command line, in a process of their own, once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def trained(run: Path, recipe: str, data: str, minutes: float, seed: int, *options: str) -> dict[str, Any]:
    """What the finished run told of itself; a run that is there already is not made again."""
    told = run / "told.json"
    if not told.exists():
        command = [sys.executable, "-m", "limner.cli", "train", recipe, "--data", data, "--out", str(run),
                   "--minutes", f"{minutes:g}", "--seed", str(seed), "--watch.judge", "0", "--json",
                   *options]  # fmt: skip
        begun = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
        said = json.loads(done.stdout)
        kept = {"images": said["images"], "wall": time.monotonic() - begun, "advice": said["advice"]}
        told.write_text(json.dumps(kept))
    return dict(json.loads(told.read_text()))
