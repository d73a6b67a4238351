from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

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
    """96 grey pictures of 11x13 in two classes, bars that lie and bars that stand, as an .npz; and in the folder
    "captioned" beside it, of classes, with a caption for each."""
    rng = np.random.default_rng(7)
    images = rng.integers(0, 40, (96, 13, 11, 1), dtype=np.uint8)
    label = np.arange(96) % 2
    told = []
    for image, lies in zip(images, label, strict=True):
        at = rng.integers(2, 9)
        told.append(f"a bar that {'lies' if lies else 'stands'} at {at}")
        if lies:
            image[at : at + 2] = 230
        else:
            image[:, at : at + 2] = 230
    path = tmp_path_factory.mktemp("bars") / "bars.npz"
    np.savez(path, images=images, labels=label)
    lines = []
    for i, (image, kind, caption) in enumerate(zip(images, label, told, strict=True)):
        file = path.with_name("captioned") / str(kind) / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(file)
        lines.append(json.dumps({"file_name": f"{kind}/{i}.png", "text": caption}))
    (path.with_name("captioned") / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return path
