from __future__ import annotations

import ast
import html
import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from limner.errors import UserError
from limner.training.curves import Line, chart, smoothed
from limner.training.grids import grid, save_png
from limner.training.report import write_report
from pages import Page

HOSTILE = "<script>alert('x')</script>&\""


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


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


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


def test_a_recipe_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("[]")
    with pytest.raises(UserError, match="damaged"):
        write_report(tmp_path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["measures.json", "metrics.jsonl", "done.json", "neighbours.npz"]), st.data())
def test_a_file_cut_off_anywhere_costs_only_its_section(run: Path, name: str, data: st.DataObject) -> None:
    path = run / name
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        assert "Samples over time" in write_report(run).read_text()
    finally:
        path.write_bytes(whole)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_neighbours_cost_only_their_section(run: Path, data: st.DataObject) -> None:
    path = run / "neighbours.npz"
    whole = path.read_bytes()
    try:
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(damaged)
        Page(write_report(run).read_text())
    finally:
        path.write_bytes(whole)


def test_neighbours_that_would_run_code_are_left_out(run: Path) -> None:
    with np.load(run / "neighbours.npz") as archive:
        arrays = dict(archive)
    np.savez(run / "neighbours.npz", **arrays | {"near": np.array([{}, {}], dtype=object)})
    assert "Is it new?" not in write_report(run).read_text()


def test_lines_to_copy_are_quoted_for_the_shell_and_python(run: Path, tmp_path: Path) -> None:
    folder = run / 'it\'s "mine" $HOME'
    folder.mkdir()
    recipe = {"recipe": "flow", "data": {"source": "my pictures; ls"}}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    blocks = re.findall(r"<pre><code>(.*?)</code></pre>", write_report(folder).read_text(), re.DOTALL)
    shell, python = (html.unescape(block) for block in blocks)
    resume, sample, evaluate = (shlex.split(line) for line in shell.splitlines())
    assert resume == ["limner", "train", "--resume", str(folder)]
    assert sample[:3] == ["limner", "sample", str(folder)]
    assert evaluate == ["limner", "evaluate", str(folder), "--reference", "my pictures; ls"]
    calls = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Constant)]
    assert str(folder) in [node.value for node in calls]


def test_the_line_that_judges_brings_real_pictures_to_their_size_as_the_training_did(run: Path) -> None:
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["data"]["source"] = "faces"
    recipe["source"] = {"source": "/x/faces", "size": [32, 32], "mode": "RGB", "fit": "pad", "limit": 500}
    recipe["source"] |= {"background": [0, 0, 0], "window": "full", "buckets": 4, "stream": "off"}
    (run / "recipe.json").write_text(json.dumps(recipe))
    told = "--reference faces --reference.fit pad --reference.background 0 0 0 --reference.limit 500\n"
    assert told.strip() in html.unescape(write_report(run).read_text())


def test_a_run_that_ended_is_not_resumed(run: Path) -> None:
    assert "--resume" not in write_report(run).read_text()
    (run / "done.json").unlink()
    text = write_report(run).read_text()
    assert "the run has not ended" in text
    assert "--resume" in text


def test_many_points_in_time_are_thinned_and_keep_their_ends(run: Path) -> None:
    picture = Image.new("L", (4, 4))
    for i in range(1, 61):
        save_png(picture, run / "samples" / f"{1000 * i:012d}.png")
    shown = re.findall(r'data-when="([^"]*)"', write_report(run).read_text())
    assert len(shown) <= 24
    assert shown[0] == "after 100 images"
    assert shown[-2:] == ["after 60,000 images", "at the end"]
    counts = [int(when.split()[1].replace(",", "")) for when in shown[:-1]]
    assert counts == sorted(set(counts))


def test_large_grids_show_fewer_points_in_time(run: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1100, 3), dtype=np.uint8)
    content = png(noise)
    for i in range(1, 13):
        (run / "samples" / f"{1000 * i:012d}.png").write_bytes(content)
    path = write_report(run)
    assert path.stat().st_size < 40 * 2**20
    shown = re.findall(r'data-when="([^"]*)"', path.read_text())
    assert shown[0] == "after 100 images"
    assert shown[-2:] == ["after 12,000 images", "at the end"]


def test_one_point_in_time_needs_no_slider(run: Path) -> None:
    for path in (run / "samples").glob("0*.png"):
        path.unlink()
    text = write_report(run).read_text()
    assert "<input" not in text
    assert text.count('class="step"') == 1


def test_a_model_without_classes_is_not_said_to_show_them(run: Path) -> None:
    assert "The classes in turn" in write_report(run).read_text()
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["config"]["conditional"] = False
    (run / "recipe.json").write_text(json.dumps(recipe))
    assert "The classes in turn" not in write_report(run).read_text()


def test_other_losses_get_curves_of_their_own(run: Path) -> None:
    with open(run / "metrics.jsonl", "w") as file:
        for i in (300, 100, 200):
            file.write(json.dumps({"images": i, "seconds": 1.0, "loss_critic": -i, "flops<": float("nan")}) + "\n")
    text = write_report(run).read_text()
    (points,) = re.findall(r'class="raw" points="([^"]*)"', text)
    across = [float(pair.split(",")[0]) for pair in points.split()]
    assert across == sorted(across)
    assert "<figcaption>loss_critic</figcaption>" in text
    assert "flops<" not in text


def numbers(svg: str) -> list[float]:
    return [float(v) for points in re.findall(r'points="([^"]*)"', svg) for v in re.split(r"[ ,]", points) if v]


@given(
    st.lists(st.tuples(st.floats(1, 1e9), st.floats(allow_nan=True, allow_infinity=True)), max_size=50), st.booleans()
)
@example([(1.0, 5e-324)], True)
@example([(1.0, 5e-324)], False)
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
