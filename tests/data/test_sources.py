"""Folders, archives and arrays: what is found, what it is called, and what is said when it cannot be read."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zipfile
from itertools import permutations

import numpy as np
import pytest

from limner.contracts import ImageSpec
from limner.data import CATALOGUE, DataConfig, open_dataset
from limner.data import catalogue as sets
from limner.data.layout import natural
from limner.data.stores import ZipStore
from limner.errors import UserError


def read(source, cache, **settings):
    return open_dataset(DataConfig(str(source), **settings), cache=cache, progress=False)


def pngs(names, noise, encoded, size=(6, 5, 3)):
    pictures = noise(len(names), *size)
    return {name: encoded(picture) for name, picture in zip(names, pictures, strict=True)}, pictures


NAMES = ["b/2.png", "b/10.png", "a/1.png", "a/deep/3.png"]


@pytest.mark.parametrize("kind", ["folder", "stored", "deflated", "one folder in a zip"])
def test_a_sub_folder_is_a_class(kind, noise, encoded, make_folder, make_zip, cache):
    files, pictures = pngs(NAMES, noise, encoded)
    if kind == "folder":
        path = make_folder(files)
    elif kind == "one folder in a zip":
        path = make_zip({f"top/inner/{name}": content for name, content in files.items()})
    else:
        path = make_zip(files, method=zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED)
    data = read(path, cache)
    assert data.labels == ("a", "b")
    assert data.label.tolist() == [0, 0, 1, 1]
    assert np.array_equal(data.images, pictures[[2, 3, 0, 1]])  # a/1, a/deep/3, b/2, b/10
    assert data.spec.size == (6, 5)
    assert data.spec.mode == "RGB"
    assert data.captions is None
    assert not data.mirror_ok


def test_the_same_pictures_have_one_fingerprint_wherever_they_lie(noise, encoded, make_folder, make_zip, cache):
    files, _ = pngs(NAMES, noise, encoded)
    one, two = read(make_folder(files), cache), read(make_zip(files), cache)
    assert one.fingerprint == two.fingerprint
    files["b/2.png"] = encoded(noise(6, 5, 3, seed=9))
    assert read(make_zip(files, "other.zip"), cache).fingerprint != one.fingerprint
    assert read(make_folder(files, "other"), cache, mode="L").fingerprint != one.fingerprint


def test_a_changed_folder_is_read_anew(noise, encoded, make_folder, cache):
    files, _ = pngs(NAMES, noise, encoded)
    folder = make_folder(files)
    assert len(read(folder, cache)) == 4
    (folder / "a" / "new.png").write_bytes(files["b/2.png"])
    assert len(read(folder, cache)) == 5


def test_a_flat_folder_has_no_classes_and_natural_order(noise, encoded, make_folder, cache):
    files, pictures = pngs(["im10.png", "im9.png", "im1.png"], noise, encoded)
    data = read(make_folder(files), cache)
    assert data.label is None
    assert data.labels == ()
    assert np.array_equal(data.images, pictures[[2, 1, 0]])
    assert sorted(["x2", "x10", "x1y", "10", "9", "x"], key=natural) == ["9", "10", "x", "x1y", "x2", "x10"]
    for names in permutations(("1", "2", "01", "001")):  # as a set may hold them
        assert sorted(names, key=natural) == ["001", "01", "1", "2"]


def test_strays_beside_class_folders_are_listed(noise, encoded, make_folder, cache):
    files, _ = pngs([f"{c}/{i}.png" for c in "ab" for i in range(10)] + ["preview.png"], noise, encoded)
    data = read(make_folder(files), cache)
    assert len(data) == 20
    assert data.report.skipped == (("preview.png", "lies beside the class folders"),)
    half, _ = pngs([f"a/{i}.png" for i in range(5)] + [f"{i}.png" for i in range(5)], noise, encoded)
    data = read(make_folder(half, "half"), cache)
    assert len(data) == 10
    assert data.label is None
    assert "not taken as classes" in data.report.summary()


def test_captions_from_a_table_and_from_text_files(noise, encoded, make_folder, make_zip, cache):
    files, _ = pngs(["a/1.png", "a/2.png", "b/3.png", "b/4.png"], noise, encoded)
    files["metadata.jsonl"] = b'{"file_name": "a/1.png", "text": "one"}\nnot json\n{"file_name": 3}\n'
    files["b/metadata.jsonl"] = '{"file_name": "3.png", "caption": "three \u00e9"}'.encode()
    files["b/4.txt"] = b"four \n"
    for path in (make_folder(files), make_zip(files)):
        data = read(path, cache)
        assert data.captions == ("one", "", "three \u00e9", "four")
        assert "1 of 4 pictures have no caption" in data.report.notes
        assert "2 lines of metadata.jsonl have no file_name and text" in data.report.notes
        assert data.report.skipped == ()


def test_texts_and_names_that_are_no_utf8(noise, encoded, make_folder, cache):
    latin = os.fsdecode(b"caf\xe9")
    files, _ = pngs(["a/1.png", "b/2.png", f"{latin}/3.png"], noise, encoded)
    files[f"a/{latin}.png"] = b"no picture"
    files["metadata.jsonl"] = (
        b'{"file_name": "a/1.png", "text": "half \\ud83d"}\n{"file_name": "b/2.png", "text": "\xc3\xa9"}'
    )
    data = read(make_folder(files), cache)
    assert data.captions == ("half \\ud83d", "é", "")
    assert data.labels == ("a", "b", "caf\\udce9")
    assert data.report.skipped == ((f"a/{latin}.png", "text, not a picture"),)


@pytest.mark.parametrize("key", ["images", "x", "arr_0", "train_images"])
def test_npz(key, noise, tmp_path, cache):
    pictures = noise(7, 5, 4)
    label_key = {"images": "labels", "x": "y", "arr_0": "arr_1", "train_images": "train_labels"}[key]
    label = np.array([[2], [0], [1], [2], [0], [0], [1]], np.uint8)
    np.savez(tmp_path / "s.npz", **{key: pictures, label_key: label, "val_images": pictures})
    data = read(tmp_path / "s.npz", cache)
    assert np.array_equal(data.images[..., 0], pictures)
    assert data.label.tolist() == label.ravel().tolist()
    assert data.labels == ("0", "1", "2")
    assert "val_images is left out" in data.report.notes


def test_npz_that_cannot_be_used(noise, tmp_path, cache):
    path = tmp_path / "s.npz"
    for arrays, word in [
        ({"weights": noise(3, 3)}, "no array named 'images'"),
        ({"images": noise(2, 3, 3).astype(np.float32)}, "float32"),
        ({"images": noise(2, 3, 4, 4)[..., :2]}, "(N, H, W, C)"),
        ({"images": noise(0, 3, 4)}, "no pictures"),
        ({"images": np.array([{}, {}], object)}, "cannot be read"),
    ]:
        np.savez(path, **arrays)
        with pytest.raises(UserError) as caught:
            read(path, cache)
        assert word in str(caught.value)
    path.write_bytes(b"PK\3\4 nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        read(path, cache)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("packed", [True, False])
def test_idx_with_labels_beside_it(packed, noise, tmp_path, cache):
    pictures, label = noise(20, 6, 7), np.arange(20, dtype=np.uint8) % 4
    end = ".gz" if packed else ""
    for name, array in (("train-images-idx3-ubyte", pictures), ("train-labels-idx1-ubyte", label)):
        data = idx(array)
        (tmp_path / (name + end)).write_bytes(gzip.compress(data) if packed else data)
    data = read(tmp_path / f"train-images-idx3-ubyte{end}", cache)
    assert np.array_equal(data.images[..., 0], pictures)
    assert data.label.tolist() == label.tolist()
    assert data.spec.mode == "L"


def test_idx_that_lies(noise, tmp_path, cache):
    path = tmp_path / "images-idx3-ubyte.gz"
    good = idx(noise(4, 5, 5))
    for content, word in [
        (gzip.compress(good[:-3]), "cut short"),
        (gzip.compress(good)[:-9], "cannot be read"),
        (gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 2**31)), "more than the file can hold"),
        (gzip.compress(b"hello, this is text"), "does not start as an idx file"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=word):
            read(path, cache)


def test_arrays_are_fitted_and_converted_too(noise, tmp_path, cache):
    np.savez(tmp_path / "s.npz", images=noise(600, 8, 12, 4))
    data = read(tmp_path / "s.npz", cache, size=(6, 6), mode="L")
    assert data.images.shape == (600, 6, 6, 1)
    assert any("alpha" in note for note in data.report.notes)


def test_limit_is_stable_and_only_adds(noise, tmp_path, cache):
    pictures = noise(50, 3, 3)
    np.savez(tmp_path / "s.npz", images=pictures, labels=np.arange(50))
    few, more = (read(tmp_path / "s.npz", cache, limit=n) for n in (10, 20))
    assert len(few) == 10
    assert set(few.label) < set(more.label)
    assert few.label.tolist() == sorted(few.label)
    assert np.array_equal(few.images[..., 0], pictures[few.label])


def test_what_is_brought_to_a_size_that_was_asked_for_is_told(noise, encoded, make_folder, tmp_path, cache):
    mixed = {f"{i}.png": encoded(noise(15 + i, 30, 3)) for i in range(5)}
    data = read(make_folder(mixed, "mixed"), cache, size=(15, 30), fit="pad")
    assert "4 pictures are fitted to 15 x 30 (height x width) by pad" in data.report.notes
    np.savez(tmp_path / "s.npz", images=noise(7, 9, 9, 3))
    assert "7 pictures are fitted to 8 x 8" in read(tmp_path / "s.npz", cache, size=(8, 8)).report.summary()
    assert read(tmp_path / "s.npz", cache, size=(9, 9)).report.notes == ()


def test_settings_for_another_source_take_all_of_it():
    given = DataConfig("real", limit=10, fit="pad", buckets=3)
    like = given.like(ImageSpec(1, (8, 9), "L"), "drawn")
    assert (like.source, like.size, like.mode, like.fit, like.limit) == ("drawn", (8, 9), "L", "pad", None)


def test_sizes_that_nearly_agree_and_sizes_that_do_not(noise, encoded, make_folder, cache):
    mostly = {f"{i}.png": encoded(noise(10, 12, 3)) for i in range(39)} | {"x.png": encoded(noise(20, 20, 3))}
    data = read(make_folder(mostly, "mostly"), cache)
    assert data.spec.size == (10, 12)
    assert "1 pictures of other sizes are fitted to 10 x 12" in data.report.summary()
    mixed = {f"{i}.png": encoded(noise(15 + i, 30 + i, 3)) for i in range(5)}
    data = read(make_folder(mixed, "mixed"), cache)
    assert data.spec.size == (16, 32)
    large = {f"{i}.jpg": encoded(noise(300, 600, 3), "JPEG") for i in range(2)}
    assert read(make_folder(large, "large"), cache).spec.size == (128, 256)


def test_grey_stays_grey_unless_one_picture_has_colour(noise, encoded, make_folder, cache):
    grey = {f"{i}.png": encoded(noise(4, 4)) for i in range(3)}
    assert read(make_folder(grey, "grey"), cache).spec.mode == "L"
    data = read(make_folder({**grey, "c.png": encoded(noise(4, 4, 3))}, "mixed"), cache)
    assert data.spec.mode == "RGB"
    assert "3 grey pictures become RGB" in data.report.notes


def test_the_short_reading_of_a_zip_is_zipfiles(noise, encoded, make_zip):
    files, _ = pngs(["a/1.png", "\u00e9/2.png", "c d/3.png"], noise, encoded)
    path = make_zip(files, method=zipfile.ZIP_DEFLATED)
    plain = ZipStore(path).entries()
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"a comment sends it the long way"
        for entry, info in zip(plain, archive.infolist(), strict=True):
            assert (entry.name, entry.size, entry.offset, entry.packed, entry.crc) == (
                info.filename,
                info.file_size,
                info.header_offset,
                info.compress_size,
                info.CRC,
            )
    assert ZipStore(path).entries() == plain
    reader = ZipStore(path).reader()
    assert {entry.name: reader.read(entry) for entry in plain} == files
    reader.close()


def test_names_in_a_zip_are_only_names(noise, encoded, make_zip, tmp_path, cache):
    files, _ = pngs(["../../evil/1.png", "/etc/2.png", "ok/3.png"], noise, encoded)
    before = {p for p in tmp_path.rglob("*") if cache not in p.parents}
    data = read(make_zip(files), cache)
    assert len(data) == 3
    assert {p for p in tmp_path.rglob("*") if p != cache and cache not in p.parents} - before == {tmp_path / "set.zip"}


def test_one_clear_line_for_what_cannot_be_opened(noise, encoded, make_folder, make_zip, tmp_path, cache):
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(make_zip({"a.png": b"x" * 100}).read_bytes()[:60])
    cases = {
        str(tmp_path / "nowhere"): "no such file or folder",
        str(make_folder({"readme.md": b"hi"}, "words")): "holds no pictures",
        str(text): "not a source that is read",
        str(broken): "cannot be read as a zip archive",
        str(make_folder({"a.png": b"", "b.png": b"text"}, "bad")): "no usable picture",
        "~nobody-of-this-name/pictures": "no such file or folder",
        "~nobody-of-this-name/set-*.tar": "no file has such a name",
        "mnits": "did you mean 'mnist'?",
        "builtin:glyfs": "did you mean 'glyphs'?",
        "builtin:glyphs?split": "is not an option",
    }
    (tmp_path / "empty").mkdir()
    cases[str(tmp_path / "empty")] = "holds no pictures"
    for source, word in cases.items():
        with pytest.raises(UserError) as caught:
            open_dataset(source, cache=cache, progress=False)
        assert word in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not list(cache.glob("datasets/*.partial"))


@pytest.mark.parametrize(
    "settings", [{"mode": "RBG"}, {"fit": "corp"}, {"size": (0, 4)}, {"limit": 0}, {"background": (0, 0, 256)}]
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(UserError):
        DataConfig("x", **settings)


def test_a_set_without_a_download_says_what_to_do(cache, monkeypatch):
    monkeypatch.delenv("LIMNER_MIRROR", raising=False)
    with pytest.raises(UserError, match=r"put flowers/train96\.zip into the folder that LIMNER_MIRROR names"):
        open_dataset("flowers", cache=cache, progress=False)


def test_a_mirror_whose_files_differ_is_refused(cache, tmp_path, monkeypatch):
    for part in CATALOGUE["mnist"].parts:
        (tmp_path / part.mirror).parent.mkdir(exist_ok=True)
        (tmp_path / part.mirror).write_bytes(gzip.compress(idx(np.zeros((2, 2, 2), np.uint8))))
    monkeypatch.setenv("LIMNER_MIRROR", str(tmp_path))
    with pytest.raises(UserError, match="SHA-256"):
        open_dataset("mnist", cache=cache, progress=False)


def test_downloads_are_https_only_and_leave_nothing_behind(tmp_path):
    target = tmp_path / "file"
    for url in ("http://127.0.0.1:9/x", "file:///etc/hostname", "https://127.0.0.1:9/x"):
        with pytest.raises(UserError):
            sets.download(url, target, hashlib.sha256(b"").hexdigest(), 10)
    assert not list(tmp_path.iterdir())


def test_every_row_of_the_catalogue_is_whole():
    for name, entry in CATALOGUE.items():
        for part in (*entry.parts, *([entry.captions] if entry.captions else [])):
            assert len(part.sha256) == 64, name
            assert not part.url or (part.url.startswith("https://") and len(part.url_sha256) == 64 and part.size > 0)


def test_one_colour_picture_that_no_sample_meets_still_decides(noise, encoded, make_zip, cache):
    files = {f"{i}.png": encoded(noise(4, 4, seed=i)) for i in range(601)}
    pictures = noise(4, 4, 3, seed=1)
    files["100.png"] = encoded(pictures)  # a sample takes every third
    data = read(make_zip(files), cache)
    assert data.spec.mode == "RGB"
    assert np.array_equal(data.images[100], pictures)
    assert (data.images[7] == noise(4, 4, seed=7)[..., None]).all()
    assert "600 grey pictures become RGB" in data.report.notes
