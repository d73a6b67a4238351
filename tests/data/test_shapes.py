"""builtin:shapes: what is drawn, what is said of it, and what is read back."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.data import shapes
from limner.data.shapes import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, SIZES, Facts, Kind, Object, Scene
from limner.data.shapes_drawing import coverage, patch_side
from limner.data.shapes_scene import BOXES
from limner.errors import UserError

Pictures = npt.NDArray[np.uint8]
KINDS = st.builds(
    Kind, size=st.sampled_from(sorted(SIZES)), colour=st.sampled_from(sorted(COLOURS)), shape=st.sampled_from(SHAPES)
)


def spoiled(images: Pictures, noise: float, blur: float, seed: int = 0) -> Pictures:
    """Pictures (N, H, W, 3) under a Gaussian blur (pixels), then Gaussian noise (levels of 255)."""
    x = images.astype(np.float64)
    if blur:
        kernel = np.exp(-(np.arange(-4, 5) ** 2) / (2 * blur**2))
        for axis in (1, 2):
            wide = np.pad(x, [(4, 4) if a == axis else (0, 0) for a in range(4)], mode="edge")
            parts = [wide.take(range(i, i + x.shape[axis]), axis) * kernel[i] / kernel.sum() for i in range(9)]
            x = np.sum(parts, axis=0)
    x += np.random.default_rng(seed).normal(0, noise, x.shape)
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def agrees(reading: shapes.Reading, scene: Scene, pixels: int) -> bool:
    """Every object, colour, size, relation and background, and each place to a pixel."""
    found = {item.kind: item for item in reading.objects}
    near = all(
        item.kind in found and math.hypot(found[item.kind].x - item.x, found[item.kind].y - item.y) < 1 / pixels
        for item in scene.objects
    )
    return near and reading.shows(shapes.facts(scene))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return shapes.make_scenes(2000, seed=11)


@pytest.mark.parametrize(
    ("size", "noise", "blur", "least"),
    [
        ((32, 32), 0, 0, 0.9995),
        ((32, 32), 8, 0.6, 0.995),
        pytest.param((24, 24), 8, 0.6, 0.995, marks=pytest.mark.slow),
        pytest.param((64, 64), 16, 0.8, 0.995, marks=pytest.mark.slow),
        ((36, 50), 10, 0.6, 0.995),
    ],
)
def test_reads_its_own_scenes(
    scenes: list[Scene], size: tuple[int, int], noise: float, blur: float, least: float
) -> None:
    some = scenes if size == (32, 32) else scenes[:600]
    readings = shapes.read_many(spoiled(shapes.draw_many(some, size), noise, blur))
    right = [agrees(reading, scene, min(size)) for reading, scene in zip(readings, some, strict=True)]
    assert np.mean(right) >= least


def altered(stated: Facts) -> list[Facts]:
    """Captions that differ from one in a single fact, each a plain untruth."""
    first = stated.kinds[0]
    others: list[Facts] = []
    for field, known in (("size", SIZES), ("colour", COLOURS), ("shape", SHAPES)):
        word = next(w for w in known if w != getattr(first, field))
        others.append(
            dataclasses.replace(stated, kinds=(dataclasses.replace(first, **{field: word}), *stated.kinds[1:]))
        )
    others.append(
        dataclasses.replace(stated, background=next(b for b in BACKGROUNDS if b != stated.background)),
    )
    for i, said in enumerate(stated.relations):
        for word in RELATIONS:
            if word != said:
                others.append(
                    dataclasses.replace(stated, relations=(*stated.relations[:i], word, *stated.relations[i + 1 :]))
                )
    if len(stated.kinds) > 1:
        others.append(Facts(stated.kinds[:-1], stated.relations[:-1], stated.background))
    return others


def test_one_false_word_is_found_out(scenes: list[Scene]) -> None:
    some = scenes[:300]
    readings = shapes.read_many(spoiled(shapes.draw_many(some), 8, 0.6))
    false = [str(lie) for r, s in zip(readings, some, strict=True) for lie in altered(shapes.facts(s)) if r.shows(lie)]
    assert not false


def test_matches_picture_and_caption(scenes: list[Scene]) -> None:
    image, caption = shapes.draw(scenes[0]), shapes.describe(scenes[0])
    assert shapes.matches(image, caption)
    assert shapes.matches(image, f"  {caption.upper()}. ")
    assert not shapes.matches(image, shapes.describe(scenes[1]))


def test_a_mirror_swaps_left_and_right() -> None:
    red, blue = Kind("small", "red", "circle"), Kind("large", "blue", "square")
    scene = Scene((Object(red, 0.25, 0.5), Object(blue, 0.7, 0.55)), "white")
    image = shapes.draw(scene)
    assert shapes.describe(scene) == "a small red circle left of a large blue square on white"
    assert shapes.matches(image, "a large blue square right of a small red circle on white")
    mirrored = np.ascontiguousarray(image[:, ::-1])
    assert shapes.matches(mirrored, "a small red circle right of a large blue square on white")
    assert not shapes.matches(mirrored, "a small red circle left of a large blue square on white")


def test_twins_are_told_by_their_relation() -> None:
    twin, other = Kind("small", "red", "ring"), Kind("small", "red", "cross")
    scene = Scene((Object(twin, 0.2, 0.5), Object(other, 0.5, 0.5), Object(twin, 0.8, 0.5)), "black")
    image = shapes.draw(scene)
    assert shapes.matches(
        image, "a small red ring left of a small red cross, which is left of a small red ring, on black"
    )
    assert not shapes.matches(
        image, "a small red ring left of a small red cross, which is right of a small red ring, on black"
    )


def test_what_is_no_object_is_unknown(scenes: list[Scene]) -> None:
    alone = Scene((Object(Kind("large", "red", "circle"), 0.3, 0.3),), "white")
    caption = shapes.describe(alone)
    image = shapes.draw(alone, (48, 48))
    assert shapes.matches(image, caption)
    blot = image.copy()
    blot[32:42, 20:44] = (220, 30, 30)
    half = image.copy()
    half[:, :14] = 255
    strange = image.copy()
    strange[abs(strange.astype(int) - (220, 30, 30)).sum(2) < 90] = (90, 110, 20)
    stroke = image.copy()
    stroke[40:42, 4:44] = 0
    for spoilt in (blot, half, strange, stroke):
        reading = shapes.read(spoilt)
        assert reading.unknown >= 1
        assert reading.scene is None
        assert not shapes.matches(spoilt, caption)
    rng = np.random.default_rng(0)
    for junk in (rng.integers(0, 256, (48, 48, 3)), np.full((48, 48, 3), 255), np.full((48, 48, 3), (0, 200, 0))):
        reading = shapes.read(junk.astype(np.uint8))
        assert not reading.objects
        assert not shapes.matches(junk.astype(np.uint8), caption)


@given(
    kinds=st.lists(KINDS, min_size=1, max_size=3),
    relations=st.tuples(st.sampled_from(RELATIONS), st.sampled_from(RELATIONS)),
    background=st.sampled_from(sorted(BACKGROUNDS)),
)
def test_a_caption_says_it_all(kinds: list[Kind], relations: tuple[str, str], background: str) -> None:
    stated = Facts(tuple(kinds), relations[: len(kinds) - 1], background)
    assert shapes.parse(str(stated)) == stated


def test_captions_of_scenes_parse_to_their_facts(scenes: list[Scene]) -> None:
    assert all(shapes.parse(shapes.describe(scene)) == shapes.facts(scene) for scene in scenes)


@pytest.mark.parametrize(
    ("caption", "says"),
    [
        ("a small red cirle on white", "did you mean 'circle'"),
        ("a red circle on white", "write like"),
        ("a small red circle", "write like"),
        ("", "write like"),
        ("a small red circle left of a large blue square, which is above a small pink ring on white", "write like"),
        ("a small red circle " * 1000, "write like"),
    ],
)
def test_strange_captions_are_told(caption: str, says: str) -> None:
    with pytest.raises(UserError) as told:
        shapes.parse(caption)
    assert says in str(told.value)
    assert len(str(told.value)) < 700


def test_scenes_are_clear(scenes: list[Scene]) -> None:
    for scene in scenes:
        boxes = [np.array(BOXES[o.kind.shape]) * SIZES[o.kind.size] + (o.x, o.y, o.x, o.y) for o in scene.objects]
        assert all((box > 0.034).all() and (box < 0.966).all() for box in boxes)
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                assert max(b[0] - a[2], a[0] - b[2], b[1] - a[3], a[1] - b[3]) > 0.0749
        for a, b in pairwise(scene.objects):
            near, far = sorted((abs(a.x - b.x), abs(a.y - b.y)))
            assert near <= 0.7501 * far
        assert len({(o.kind.colour, o.kind.shape) for o in scene.objects}) == len(scene.objects)


def test_every_word_gets_its_share(scenes: list[Scene]) -> None:
    said = [shapes.facts(scene) for scene in scenes]
    for values, known in (
        ([k.colour for f in said for k in f.kinds], COLOURS),
        ([k.shape for f in said for k in f.kinds], SHAPES),
        ([r for f in said for r in f.relations], RELATIONS),
        ([f.background for f in said], BACKGROUNDS),
        ([len(f.kinds) for f in said], (1, 2, 3)),
    ):
        count = Counter(values)
        expected = len(values) / len(known)
        assert set(count) == set(known)
        assert all(abs(n - expected) < 5 * math.sqrt(expected) for n in count.values()), count
    large = np.mean([k.size == "large" for f in said for k in f.kinds])
    assert 0.42 < large < 0.5  # three large ones are never together


def test_a_scene_depends_on_its_number_and_the_seed_alone() -> None:
    many = shapes.make_scenes(50, seed=3)
    assert shapes.make_scenes(20, seed=3, first=30) == many[30:]
    assert shapes.make_scenes(50, seed=3) == many
    assert shapes.make_scenes(50, seed=2**40 + 3) != many


AREAS = {
    "circle": math.pi,
    "square": 1.8**2,
    "triangle": 3 * math.sqrt(3) * 0.65**2,
    "diamond": 2 * 1.2**2,
    "cross": 2 * 2.2 * 0.76 - 0.76**2,
    "ring": math.pi * (1.1**2 - 0.55**2),
}


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    radius=st.floats(3.0, 9.0),
    dx=st.floats(-0.5, 0.5),
    dy=st.floats(-0.5, 0.5),
)
def test_coverage_has_the_area_and_the_centre_of_its_shape(shape: str, radius: float, dx: float, dy: float) -> None:
    side = 31
    x, y, r = (np.array([v], np.float32) for v in (side / 2 + dx, side / 2 + dy, radius))
    cover = coverage(shape, r, x, y, side)[0].astype(np.float64)
    at = np.arange(side) + 0.5
    assert cover.sum() == pytest.approx(AREAS[shape] * radius**2, rel=0.035)
    assert (cover.sum(0) * at).sum() / cover.sum() == pytest.approx(x[0], abs=0.05)
    assert (cover.sum(1) * at).sum() / cover.sum() == pytest.approx(y[0], abs=0.05)


def test_a_patch_holds_any_object() -> None:
    for unit in (24, 32, 48, 333):
        reach = max(abs(edge) for box in BOXES.values() for edge in box) * max(SIZES.values()) * unit
        assert patch_side(unit) >= 2 * reach + 3


def test_the_default_set() -> None:
    made = shapes.source({"count": "500"}, None)
    assert made.images.shape == (500, 32, 32, 3)
    assert made.label is None
    assert made.labels == ()
    assert not made.mirror_ok
    assert made.captions is not None
    scenes = shapes.make_scenes(500)
    assert list(made.captions) == [shapes.describe(scene) for scene in scenes]
    assert np.array_equal(made.images[7], shapes.draw(scenes[7]))
    wide = shapes.source({"count": "3", "seed": "9"}, (30, 70)).images
    assert wide.shape == (3, 30, 70, 3)


def test_mistakes_are_told() -> None:
    for options, size, says in (
        ({"cuont": "5"}, None, "did you mean 'count'"),
        ({"count": "0"}, None, "count='0'"),
        ({"count": "many"}, None, "count='many'"),
        ({}, (23, 32), "23x32"),
        ({}, (32, 4096), "32x4096"),
        ({"count": "2000000"}, (1024, 1024), "smaller count or size"),
    ):
        with pytest.raises(UserError) as told:
            shapes.source(options, size)
        assert says in str(told.value)
    for images in (np.zeros((2, 32, 32, 1), np.uint8), np.zeros((2, 32, 32, 3)), np.zeros((2, 20, 32, 3), np.uint8)):
        with pytest.raises(UserError, match="scenes are read from"):
            shapes.read_many(images)  # type: ignore[arg-type]
