"""Files as limner writes them."""

from __future__ import annotations

from pathlib import Path

import torch

from limner.tensors import save_tensors


def test_whoever_may_read_new_files_may_read_weights(tmp_path: Path) -> None:
    """safetensors gives its files to their owner alone; a colleague on the same machine has to load a snapshot too."""
    (tmp_path / "plain").touch()
    save_tensors(tmp_path / "weights.safetensors", {"a": torch.zeros(1)})
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
