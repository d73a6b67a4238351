"""Captions as tokens."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.data.shapes import describe, make_scenes
from limner.errors import UserError
from limner.text import CaptionTokenizer, TextConfig, remembered

CAPTIONS = [describe(scene) for scene in make_scenes(200)]
CONFIG = TextConfig(vocabulary=400, length=40)


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer.learned(CAPTIONS, CONFIG)


def test_words_of_the_captions_become_single_tokens(tokenizer: CaptionTokenizer) -> None:
    assert 256 < tokenizer.vocabulary <= 400
    told = tokenizer.encode(["a small red circle on white", "a red circle"])
    assert told.dtype == torch.int64
    assert told.shape == (2, 40)
    assert (told >= 0).sum(1).tolist() == [6, 3]
    assert told[0, 2] == told[1, 1]  # "red", wherever it stands
    assert int(told.max()) < tokenizer.vocabulary


def test_the_same_captions_make_the_same_tokens(tokenizer: CaptionTokenizer) -> None:
    assert CaptionTokenizer.learned(CAPTIONS, CONFIG).to_json() == tokenizer.to_json()


@given(st.text(max_size=9))
def test_every_text_can_be_said(text: str) -> None:
    """Of any script, but for spaces and capitals; half characters are none."""
    tokenizer = _learned()
    said = tokenizer.decode(tokenizer.encode([text])[0])
    whole = text.encode("utf-8", "replace").decode("utf-8")
    lower = "".join(character.lower() for character in " ".join(whole.split()))
    assert said.split() == unicodedata.normalize("NFC", lower).split()


def _learned(made: list[CaptionTokenizer] = []) -> CaptionTokenizer:  # noqa: B006 - once
    made += [] if made else [CaptionTokenizer.learned(CAPTIONS, CONFIG)]
    return made[0]


def test_what_looks_the_same_is_the_same(tokenizer: CaptionTokenizer) -> None:
    told = tokenizer.encode(["A  Café\n", "a cafe\u0301"])
    assert torch.equal(told[0], told[1])


def test_nothing_is_no_text(tokenizer: CaptionTokenizer) -> None:
    assert (tokenizer.encode(["", " \n"]) == -1).all()
    assert tokenizer.encode([]).shape == (0, 40)


def test_what_is_too_long_is_cut(tokenizer: CaptionTokenizer) -> None:
    long = "red " * 41
    told = tokenizer.encode([long, "red " * 40, "x" * 10**6])
    assert torch.equal(told[0], told[1])
    assert (told >= 0).all()
    assert tokenizer.too_long([long, "red " * 40, long]) == 2


def test_it_is_kept_as_json(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    again = CaptionTokenizer.load(tmp_path / "tokenizer.json", 40)
    assert torch.equal(again.encode(CAPTIONS), tokenizer.encode(CAPTIONS))
    assert again.vocabulary == tokenizer.vocabulary


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is damaged"),
        (b"\xff\xfe", "is no text"),
        (b'{"version": "1.0"}', "is damaged"),
        (json.dumps({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}).encode(), "no byte pairs"),
        (b" " * (32 * 2**20 + 1), "larger than 32 MiB"),
    ],
    ids=["cut", "bytes", "without a model", "of another kind", "large"],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(UserError, match=said):
        CaptionTokenizer.load(tmp_path / "tokenizer.json", 8)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing: the model reads texts by it"):
        CaptionTokenizer.load(tmp_path / "tokenizer.json", 8)


def test_texts_are_as_long_as_captions(tokenizer: CaptionTokenizer) -> None:
    assert tokenizer.fitted(["", "red red", "red"]).config == TextConfig(tokenizer.vocabulary, 2)
    assert tokenizer.fitted(["red " * 50]).length == 40
    assert tokenizer.fitted([""]).length == 1


def test_different_captions_are_remembered() -> None:
    assert remembered(["b", "", "a ", "b", " "]) == ("b", "a")
    many = remembered([str(i % 640) for i in range(1000)])
    assert many == tuple(str(10 * i) for i in range(64))


@pytest.mark.parametrize("wrong", [{"vocabulary": 255}, {"length": 0}, {"length": 2000}])
def test_settings_have_bounds(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"net\.text"):
        TextConfig(**wrong)
