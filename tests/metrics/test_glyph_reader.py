"""The judge of glyphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from limner.data import glyphs
from limner.data.sources import RawSource
from limner.data.typefaces import CHARACTERS
from limner.errors import UserError
from limner.metrics.glyph_reader import (
    GlyphReader,
    ReaderTraining,
    load_glyph_reader,
    merge_table,
    train_glyph_reader,
)

DIGITS = {"characters": "0123456789", "count": "2400"}


@pytest.fixture(scope="module")
def digits() -> RawSource:
    return glyphs.source(DIGITS, None)


@pytest.fixture(scope="module")
def held_out() -> RawSource:
    return glyphs.source(DIGITS | {"split": "heldout", "count": "600"}, None)


@pytest.fixture(scope="module")
def reader(digits: RawSource) -> GlyphReader:
    assert digits.label is not None
    return train_glyph_reader(digits.images, digits.label, digits.labels, seed=1, training=ReaderTraining(epochs=4))


def accuracy(reader: GlyphReader, images: np.ndarray, label: np.ndarray | None) -> float:
    assert label is not None
    return float((reader.merged(reader.read(images)) == reader.merged(label)).mean())


def test_reads_typefaces_it_never_saw(reader: GlyphReader, held_out: RawSource) -> None:
    assert accuracy(reader, held_out.images, held_out.label) >= 0.95


def test_reads_other_sizes_colours_and_damage(reader: GlyphReader) -> None:
    large = glyphs.source(DIGITS | {"split": "heldout", "count": "300", "mode": "RGB"}, (56, 56))
    assert accuracy(reader, large.images, large.label) >= 0.93
    noise = np.random.default_rng(0).normal(0, 16, large.images.shape)
    assert accuracy(reader, np.clip(large.images * 0.8 + noise, 0, 255).astype(np.uint8), large.label) >= 0.9


def test_does_not_read_what_is_not_there(reader: GlyphReader, held_out: RawSource) -> None:
    turned = np.ascontiguousarray(np.rot90(held_out.images, axes=(1, 2)))
    assert accuracy(reader, turned, held_out.label) < 0.5
    empty = np.zeros_like(held_out.images)
    assert len(set(reader.read(empty).tolist())) == 1
    assert reader.read(held_out.images[:0]).shape == (0,)


def test_a_reader_is_a_function_of_its_seed(digits: RawSource) -> None:
    assert digits.label is not None
    few, label = digits.images[:512], digits.label[:512]

    def weights(seed: int) -> torch.Tensor:
        made = train_glyph_reader(few, label, digits.labels, seed=seed, training=ReaderTraining(epochs=1))
        return torch.cat([p.detach().reshape(-1) for p in made.parameters()])

    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = weights(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(weights(3), first)
    assert not torch.equal(weights(4), first)


def test_saved_and_loaded_it_reads_the_same(reader: GlyphReader, held_out: RawSource, tmp_path: Path) -> None:
    reader.save(tmp_path / "reader.safetensors")
    again = load_glyph_reader(tmp_path / "reader.safetensors")
    assert again.labels == reader.labels
    assert np.array_equal(again.read(held_out.images), reader.read(held_out.images))
    # The batch does not matter.
    assert np.array_equal(again.read(held_out.images, batch=7), reader.read(held_out.images))


def test_strange_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no tensors")
    save_file({"a": torch.zeros(2)}, str(tmp_path / "other.safetensors"))
    about = {"format": "limner.glyph_reader.1", "labels": "01", "height": "28", "across": "28", "width": "16"}
    save_file({"a": torch.zeros(2)}, str(tmp_path / "keys.safetensors"), metadata=about)
    save_file(
        {"a": torch.zeros(2)}, str(tmp_path / "huge.safetensors"), metadata=about | {"width": "99999999", "labels": "0"}
    )
    for name in ("absent", "text", "other", "keys", "huge"):
        with pytest.raises(UserError, match=f"{name}.safetensors"):
            load_glyph_reader(tmp_path / f"{name}.safetensors")


def test_merging() -> None:
    table = merge_table(tuple(CHARACTERS))
    merged = {CHARACTERS[k] for k in np.flatnonzero(table != np.arange(62))}
    assert merged == set("OoIlcsuvwxz")
    assert {CHARACTERS[table[CHARACTERS.index(c)]] for c in "Oo0"} == {"0"}
    assert np.array_equal(table[table], table)
    assert merge_table(("c", "C", "a")).tolist() == [0, 0, 2]


@pytest.mark.slow
def test_the_whole_set() -> None:
    train, held = glyphs.source({}, None), glyphs.source({"split": "heldout"}, None)
    assert train.label is not None
    assert accuracy(train_glyph_reader(train.images, train.label, train.labels), held.images, held.label) >= 0.97
