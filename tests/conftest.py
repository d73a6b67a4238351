from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# A shared machine may stand still for a second: how long an example takes says nothing here. The same examples every
# time, so that a failure is there again; ``make slow`` looks for new ones.
settings.register_profile("limner", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "limner"))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded sets and reference statistics of tests, and of what they share, never meet those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMNER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 grey pictures of 11x13 in two classes, bars that lie and bars that stand, as an .npz."""
    rng = np.random.default_rng(7)
    images = rng.integers(0, 40, (96, 13, 11, 1), dtype=np.uint8)
    label = np.arange(96) % 2
    for image, lies in zip(images, label, strict=True):
        at = rng.integers(2, 9)
        if lies:
            image[at : at + 2] = 230
        else:
            image[:, at : at + 2] = 230
    path = tmp_path_factory.mktemp("bars") / "bars.npz"
    np.savez(path, images=images, labels=label)
    return path
