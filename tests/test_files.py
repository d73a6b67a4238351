"""Files as limner writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from limner.files import expanded, write_json, write_text
from limner.tensors import save_tensors


def test_whoever_may_read_new_files_may_read_weights(tmp_path: Path) -> None:
    """safetensors gives its files to their owner alone; a colleague on the same machine has to load a snapshot too."""
    (tmp_path / "plain").touch()
    save_tensors(tmp_path / "weights.safetensors", {"a": torch.zeros(1)})
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_utf8_cannot_hold_is_written_and_read_again(tmp_path: Path) -> None:
    content = {"é": ["\ud83d", "\\\udce9", "\U0001f600"]}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == content
    write_text(tmp_path / "a.txt", "é \ud83d")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "é \\ud83d"


def test_the_folder_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a") == tmp_path / "a"
    assert expanded("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
