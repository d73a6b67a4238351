from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def mirror() -> Path:
    """The folder of real sets; the test is skipped where there is none."""
    root = os.environ.get("LIMNER_MIRROR", "")
    if not root or not Path(root).is_dir():
        pytest.skip("needs real pictures: set LIMNER_MIRROR to the folder that holds them")
    return Path(root)


@pytest.fixture
def noise() -> Callable[..., Pixels]:
    """Random pictures: noise(n, h, w, c, seed=0)."""

    def make(*shape: int, seed: int = 0) -> Pixels:
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    return make


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """An image file's bytes: encoded(pixels or PIL image, "PNG", **options of Pillow)."""

    def encode(picture: Any, form: str = "PNG", **options: Any) -> bytes:
        file = io.BytesIO()
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.squeeze(picture))
        image.save(file, form, **options)
        return file.getvalue()

    return encode


@pytest.fixture
def make_zip(tmp_path: Path) -> Callable[..., Path]:
    def make(files: Mapping[str, bytes], name: str = "set.zip", method: int = zipfile.ZIP_STORED) -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", method) as archive:
            for member, content in files.items():
                archive.writestr(member, content)
        return path

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    def make(files: Mapping[str, bytes], name: str = "set") -> Path:
        root = tmp_path / name
        for member, content in files.items():
            path = root / member
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root

    return make


@pytest.fixture
def make_tar(tmp_path: Path) -> Callable[..., Path]:
    def make(files: Mapping[str, bytes], name: str = "set.tar") -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w") as archive:
            for member, content in files.items():
                about = tarfile.TarInfo(member)
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
        return path

    return make
