from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from limner.errors import UserError
from limner.training.grids import grid, save_png


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 20), st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3, 4]), st.integers(1, 4),
    st.integers(0, 3), st.integers(1, 7),
)  # fmt: skip
def test_every_picture_stands_where_it_should(
    n: int, height: int, width: int, channels: int, scale: int, gap: int, columns: int
) -> None:
    images = np.random.default_rng(n).integers(0, 256, (n, height, width, channels), dtype=np.uint8)
    picture = grid(images, columns=columns, scale=scale, gap=gap)
    pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)
    assert picture.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    for i in range(n):
        top = gap + i // columns * (height * scale + gap)
        left = gap + i % columns * (width * scale + gap)
        cell = pixels[top : top + height * scale, left : left + width * scale]
        assert np.array_equal(cell[::scale, ::scale], images[i])


def test_small_pictures_are_made_visible(tmp_path: Path) -> None:
    picture = grid(np.zeros((4, 7, 7, 1), np.uint8))
    assert min(picture.size) >= 2 * 56
    save_png(picture, tmp_path / "a" / "b.png")
    assert Image.open(tmp_path / "a" / "b.png").size == picture.size
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.png"]


@pytest.mark.parametrize(("count", "cells"), [(1, (1, 1)), (7, (3, 3)), (9, (3, 3)), (10, (4, 3))])
def test_nearly_square_unless_told(count: int, cells: tuple[int, int]) -> None:
    picture = grid(np.zeros((count, 60, 60, 3), np.uint8), gap=0)
    assert picture.size == (cells[0] * 60, cells[1] * 60)


def test_what_is_saved_is_what_was_drawn(tmp_path: Path) -> None:
    picture = grid(np.random.default_rng(0).integers(0, 256, (5, 8, 6, 4), dtype=np.uint8))
    save_png(picture, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").tobytes() == picture.tobytes()


def test_a_save_that_fails_leaves_what_stood_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError):
        save_png(grid(np.zeros((1, 8, 8, 1), np.uint8)), tmp_path / "file" / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "not a folder"
