"""Codecs for the tests' bars with fresh weights, the same in every process: whoever learns their tokens does not care
how good they are."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from limner import random
from limner.contracts import ImageSpec
from limner.models import CodecNetConfig
from limner.recipes import AnyRecipe, resume, train
from limner.training.checkpoint import checkpoints
from limner.training.snapshot import CodecConfig, save_snapshot

_HOME = tempfile.TemporaryDirectory()


@lru_cache
def fresh(net: CodecNetConfig, spec: ImageSpec = ImageSpec(1, (13, 11), "L")) -> Path:  # noqa: B008 - frozen
    """A snapshot's folder."""
    config = CodecConfig(net, spec)
    with random.scoped(0, "codec"):
        codec = config.network()
    folder = Path(tempfile.mkdtemp(dir=_HOME.name))
    save_snapshot(folder, config, codec.state_dict(), "# A codec of tests\n")
    return folder


def resumed_without_it(codec: Path, settings: Callable[[Path], AnyRecipe], bars: Path, images: int, at: Path) -> Path:
    """A run behind a copy of a codec, taken back to an early checkpoint, and resumed when the copy is gone.

    Args:
        codec: a snapshot's folder.
        settings: of a run behind a codec.
        bars: the pictures.
        images: of the run.
        at: an empty folder for both.
    """
    gone, again = at / "codec", at / "again"
    shutil.copytree(codec, gone)
    train(settings(gone), str(bars), out=again, images=images, show=False)
    shutil.rmtree(again / "snapshot")
    (again / "done.json").unlink()
    for path in checkpoints(again / "checkpoints")[2:]:
        path.unlink()
    shutil.rmtree(gone)
    resume(again, show=False)
    return again
