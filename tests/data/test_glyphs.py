"""builtin:glyphs: real letterforms, complete, deterministic, in proportion."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from limner.data import glyphs
from limner.data.typefaces import CHARACTERS, TYPEFACES, Style, cap_height, caption, font, styles
from limner.errors import UserError

STYLES = [style for face in TYPEFACES for style in styles(face)]
LOOKALIKES = ({"I", "l"}, {"O", "0"}, {"O", "o"})


def stencil(style: Style, text: str, em: int = 100) -> npt.NDArray[np.uint8]:
    """The bare ink of a character, cut to its box."""
    face = font(style, em)
    mask = Image.new("L", (3 * em, 3 * em))
    ImageDraw.Draw(mask).text((em, 2 * em), text, fill=255, font=face, anchor="ls")
    box = mask.getbbox()
    return np.asarray(mask.crop(box)) if box else np.zeros((1, 1), np.uint8)


def overlap(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """Intersection over union of two stencils, stretched to one box."""
    x, y = (np.asarray(Image.fromarray(part).resize((40, 40))) > 127 for part in (a, b))
    return float((x & y).sum() / (x | y).sum())


@pytest.fixture(scope="module")
def train() -> glyphs.RawSource:
    return glyphs.source({}, None)


def test_enough_typefaces_and_two_held_out() -> None:
    held = {face.name for face in TYPEFACES if face.held_out}
    assert len({face.name for face in TYPEFACES}) == len(TYPEFACES) >= 10
    assert len(held) == 2
    shown = {
        split: {s.typeface for s in glyphs.plan(glyphs.configure({"split": split}))[1]}
        for split in ("train", "heldout", "all")
    }
    assert shown["heldout"] == held
    assert not shown["train"] & held
    assert shown["all"] == shown["train"] | held


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_every_style_draws_every_character(style: Style) -> None:
    missing = stencil(style, "\U0010fffd")
    drawn = {c: stencil(style, c) for c in CHARACTERS}
    for c, ink in drawn.items():
        assert ink.sum() > 0, c
        assert ink.shape != missing.shape or overlap(ink, missing) < 0.99, f"{c} is the box of a missing character"
    for a, b in combinations(CHARACTERS, 2):
        if {a, b} not in LOOKALIKES:
            assert drawn[a].shape != drawn[b].shape or not np.array_equal(drawn[a], drawn[b]), (a, b)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_small_letters_are_no_small_capitals(style: Style) -> None:
    drawn = {c: stencil(style, c) for c in CHARACTERS}
    for small in "acemnorsuvwxz":
        assert drawn[small].shape[0] < 0.88 * drawn["H"].shape[0], small
    for small in "abdeghnqrt":
        assert overlap(drawn[small], drawn[small.upper()]) < 0.85, small


def test_the_default_set(train: glyphs.RawSource) -> None:
    assert train.images.shape == (24_800, 28, 28, 1)
    assert train.images.dtype == np.uint8
    assert train.label is not None
    assert train.captions is not None
    assert train.labels == tuple(CHARACTERS)
    assert np.bincount(train.label).tolist() == [400] * 62
    assert not train.mirror_ok
    for k in (0, 61, 12_345):
        assert train.captions[k] == caption(CHARACTERS[train.label[k]])
    assert {train.captions[7], train.captions[10], train.captions[42]} == {
        "digit seven",
        "capital letter A",
        "small letter g",
    }
    assert len(np.unique(train.images.reshape(len(train.images), -1), axis=0)) == len(train.images)


def test_statistics_are_those_of_every_run(train: glyphs.RawSource) -> None:
    # Not a hash: versions of FreeType differ in the last bits.
    x = train.images.astype(np.float64) / 255
    assert x.mean() == pytest.approx(0.1102, abs=0.003)
    assert x.std() == pytest.approx(0.2833, abs=0.005)
    per_class = np.array([x[train.label == k].mean() for k in range(62)])
    assert CHARACTERS[int(per_class.argmax())] in "WM"
    assert CHARACTERS[int(per_class.argmin())] in "iIlrj"


def test_ink_stays_off_the_frame(train: glyphs.RawSource) -> None:
    border = np.concatenate([train.images[:, [0, -1]].reshape(-1), train.images[:, :, [0, -1]].reshape(-1)])
    assert (border > 64).mean() < 1e-3
    assert (train.images.reshape(len(train.images), -1).max(1) > 90).all()


def test_letters_keep_their_proportions(train: glyphs.RawSource) -> None:
    assert train.label is not None
    rows = (train.images[..., 0] > 60).any(2)
    top = rows.argmax(1)
    bottom = rows.shape[1] - rows[:, ::-1].argmax(1)

    def mean(values: npt.NDArray[np.int64], c: str) -> float:
        return float(values[train.label == CHARACTERS.index(c)].mean())

    for c in "cosvwxz":
        assert mean(bottom - top, c) < 0.82 * mean(bottom - top, c.upper()), c
        assert mean(bottom, c) == pytest.approx(mean(bottom, c.upper()), abs=1.0), c
    for c in "gpqy":
        assert mean(bottom, c) > mean(bottom, "x") + 3, c
    for style in STYLES:
        assert 0.5 < cap_height(style) < 0.8, style


def test_a_picture_depends_on_its_number_and_the_seed_alone() -> None:
    many = glyphs.source({"count": "300"}, None).images
    assert np.array_equal(many, glyphs.source({"count": "300"}, None).images)
    assert np.array_equal(many[:100], glyphs.source({"count": "100"}, None).images)
    assert not np.array_equal(many, glyphs.source({"count": "300", "seed": "1"}, None).images)


def test_one_picture_at_every_resolution() -> None:
    options = {"count": "248", "split": "all"}
    small = glyphs.source(options, (28, 28)).images.astype(float)
    for factor in (2, 4, 8):
        large = glyphs.source(options, (28 * factor, 28 * factor)).images[..., 0].astype(float)
        reduced = large.reshape(len(large), 28, factor, 28, factor).mean((2, 4))
        assert abs(reduced - small[..., 0]).mean() < 3


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(8, 80),
    width=st.integers(8, 80),
    characters=st.sets(st.sampled_from(CHARACTERS), min_size=1, max_size=6),
    mode=st.sampled_from(["L", "RGB"]),
)
def test_any_size_and_characters(height: int, width: int, characters: set[str], mode: str) -> None:
    made = glyphs.source(
        {"count": "14", "characters": "".join(characters), "mode": mode, "split": "all"}, (height, width)
    )
    assert made.images.shape == (14, height, width, 1 if mode == "L" else 3)
    assert made.labels == tuple(sorted(characters, key=CHARACTERS.index))
    assert (made.images == made.images[..., :1]).all()
    assert (made.images.reshape(14, -1).max(1) > 20).all()


@pytest.mark.parametrize(
    ("options", "size", "says"),
    [
        ({"splt": "train"}, None, "did you mean 'split'"),
        ({"split": "heldut"}, None, "did you mean 'heldout'"),
        ({"characters": "aé"}, None, "'é'"),
        ({"characters": ""}, None, "change characters="),
        ({"count": "0"}, None, "count='0'"),
        ({"count": "-5"}, None, "count='-5'"),
        ({"count": "9" * 30}, None, "whole number"),
        ({"count": "1e5"}, None, "whole number"),
        ({"mode": "CMYK"}, None, "mode"),
        ({"seed": str(2**64)}, None, "seed"),
        ({}, (4, 28), "4x28"),
        ({}, (28, 5000), "28x5000"),
        ({"count": "2000000"}, (1024, 1024), "smaller count or size"),
    ],
)
def test_mistakes_are_told(options: dict[str, str], size: tuple[int, int] | None, says: str) -> None:
    with pytest.raises(UserError, match=r".") as told:
        glyphs.configure(options, size)
    assert says in str(told.value)
    assert "\n" not in str(told.value)
