from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from limner.errors import UserError
from limner.training.curves import Line, chart, smoothed
from limner.training.grids import grid, save_png
from limner.training.report import write_report

HOSTILE = "<script>alert('x')</script>&\""
VOID = {"meta", "img", "input", "br", "line", "circle", "polyline"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder as a run leaves it, with a hostile class name in it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 9, 8, 3), dtype=np.uint8)
    for name in ("000000000100", "000000000100_raw", "000000000200", "final", "final_raw"):
        save_png(grid(images), tmp_path / "samples" / f"{name}.png")
    recipe = {
        "version": 1,
        "recipe": "flow",
        "config": {"net": {"width": 8}, "seed": 3},
        "plan": {"images": 300},
        "environment": {"torch": "2"},
        "data": {"source": HOSTILE, "pictures": 96, "labels": ["a", HOSTILE], "size": [9, 8], "mode": "RGB"},
    }
    row = {"name": "fd_wavelets_1k", "value": 3.25, "low": 3.0, "high": 3.5, "real": 0.5, "better": "lower",
           "receipt": HOSTILE}  # fmt: skip
    copies = row | {"name": "near_copies_pixels_1k", "value": 0.02, "real": None}
    lines = [{"images": 10 * i, "seconds": i, "loss": 1 / (i + 1), "lr": 0.1} for i in range(1, 31)]
    lines += [{"images": 10 * i, "seconds": i, "measures": {"fd_wavelets_1k": row}} for i in (10, 20, 30)]
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    (tmp_path / "measures.json").write_text(json.dumps({"rows": [row, copies], "notes": ["few samples"]}))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"images": 31')
    done = {"seconds": {"set-up": 2.0, "training": 60.0}, "images": 300, "parameters": 5, "flops_per_image": 1e6,
            "peak_memory_bytes": 2**28, "interrupted": 1}  # fmt: skip
    (tmp_path / "done.json").write_text(json.dumps(done))
    np.savez(
        tmp_path / "neighbours.npz",
        samples=images[:2],
        nearest=images[:8].reshape(2, 4, 9, 8, 3),
        distance=np.ones((2, 4), np.float32),
        near=np.array([True, False]),
    )
    return tmp_path


class Page(HTMLParser):
    """Checks that tags are closed in order, and gathers what points outside and all ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0
        self.images_without_alt = 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [str(given[name]) for name in ("src", "href") if name in given]
        self.ids += [str(given["id"])] if "id" in given else []
        self.scripts += tag == "script"
        self.images_without_alt += tag == "img" and not given.get("alt")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_one_file_with_everything_in_it(run: Path) -> None:
    text = write_report(run).read_text()
    page = Page(text)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert len(page.links) == 1 + 3 + 2 + 2 * 5  # the end, three points in time of which one lacks its raw grid …
    assert page.scripts == 1
    assert page.images_without_alt == 0
    assert len(page.ids) == len(set(page.ids))
    assert "http" not in text
    assert HOSTILE not in text
    for said in ("300 images seen in 1 min 2 s", "real held-out pictures score 0.5", "a near copy", "limner sample"):
        assert said in text
    assert text.count("<svg") == 3


@pytest.mark.parametrize("missing", ["samples", "measures.json", "metrics.jsonl", "done.json", "neighbours.npz"])
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_whatever_is_missing_or_cut_off_the_page_is_written(run: Path, missing: str, how: str) -> None:
    path = run / missing
    if path.is_dir():
        for one in path.iterdir():
            one.unlink()
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    Page(write_report(run).read_text())


def test_only_the_recipe_is_needed(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "recipe.json").write_text((run / "recipe.json").read_text())
    Page(write_report(bare).read_text())
    (bare / "recipe.json").unlink()
    with pytest.raises(UserError):
        write_report(bare)


def test_the_same_folder_gives_the_same_bytes(run: Path) -> None:
    assert write_report(run).read_bytes() == write_report(run).read_bytes()
    assert not list(run.rglob("*.tmp"))


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


def numbers(svg: str) -> list[float]:
    return [float(v) for points in re.findall(r'points="([^"]*)"', svg) for v in re.split(r"[ ,]", points) if v]


@given(
    st.lists(st.tuples(st.floats(1, 1e9), st.floats(allow_nan=True, allow_infinity=True)), max_size=50), st.booleans()
)
def test_curves_stay_in_their_frame(points: list[tuple[float, float]], log: bool) -> None:
    kept = [(at, max(-1e12, min(1e12, value)) if np.isfinite(value) else value) for at, value in points]
    svg = chart("x", [Line("x", sorted(kept))], logarithmic=log)
    coordinates = numbers(svg)
    assert all(-1 <= x <= 561 for x in coordinates[::2])
    assert all(-1 <= y <= 221 for y in coordinates[1::2])


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    svg = chart("x", [Line("x", [(float(i), float(i)) for i in range(1, 100_001)])])
    coordinates = numbers(svg)
    assert len(coordinates) <= 2 * 602
    assert coordinates[-2] == pytest.approx(548)


def test_smoothing_keeps_a_constant_and_the_length() -> None:
    out = smoothed([(float(i), 2.0) for i in range(9)])
    assert [at for at, _ in out] == list(range(9))
    assert [value for _, value in out] == pytest.approx([2.0] * 9)
