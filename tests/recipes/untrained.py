"""Codecs for the tests' bars with fresh weights, the same in every process: whoever learns their tokens does not care
how good they are."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from limner import random
from limner.contracts import ImageSpec
from limner.models import CodecNetConfig
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
