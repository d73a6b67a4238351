"""What a run says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limner.contracts import Model
from limner.recipes import recipe, train
from limner.training.describing import environment, peak_memory, warn_if_changed


@pytest.mark.parametrize("name", ["processor", "device"])
def test_another_kind_of_machine_is_told(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    now = environment()
    assert now["processor"] == torch.backends.cpu.get_cpu_capability()
    assert now["device"] == "cpu"
    warn_if_changed(now | {name: "another"})
    assert f"{name} was another, is {now[name]}): it goes on, not bit for bit" in capsys.readouterr().err
    del now[name]  # as runs have it that began before it was written down
    warn_if_changed(now)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("place", ["runs/logos", 'odd "name" \\ é😀'])
def test_the_cards_example_runs(bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    plain = recipe("flow", "tiny")
    settings = replace(
        plain,
        net=replace(plain.net, width=8),
        training=replace(plain.training, batch=8, precision="float32"),
        watch=replace(plain.watch, grids=0, judge=0, pictures=1),
        sampling=replace(plain.sampling, steps=1, guidance=1.5),
    )
    run = train(settings, str(bars), out=Path(place), images=8, show=False).folder
    _, example, _ = (run / "snapshot" / "card.md").read_text(encoding="utf-8").split("```")
    names: dict[str, Any] = {}
    exec(example.removeprefix("python\n"), names)
    assert isinstance(names["model"], Model)
    assert names["pictures"].shape == (16, 13, 11, 1)
    assert json.loads((run / "done.json").read_text())["guidance"] == 1.5


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="other systems tell by resource alone")
def test_memory_is_not_that_of_who_started_the_process() -> None:
    held = np.ones(2**27)  # 1 GiB, written
    told = subprocess.run(
        [sys.executable, "-c", "from limner.training.describing import peak_memory; print(peak_memory())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert peak_memory() > held.nbytes
    assert 2**24 < int(told.stdout) < 2**29
