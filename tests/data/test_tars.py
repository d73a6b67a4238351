"""Tar archives: WebDataset's own writer and reader are the oracle of its layout; malicious archives stay archives."""

from __future__ import annotations

import io
import json
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from limner.data import DataConfig, open_dataset
from limner.data.tars import TarStore, expand
from limner.errors import UserError


def read(source, cache, **settings):
    return open_dataset(DataConfig(str(source), **settings), cache=cache, progress=False)


def samples(pictures, encoded, **sides):
    """Files of a shard in the layout of WebDataset; ``sides`` are functions of the number of a picture."""
    files = {}
    for i, picture in enumerate(pictures):
        files[f"{i:04d}.png"] = encoded(picture)
        for kind, content in sides.items():
            files[f"{i:04d}.{kind}"] = content(i)
    return files


def test_pictures_classes_and_captions(noise, encoded, make_tar, cache):
    pictures = noise(7, 6, 5, 3)
    sides = {"cls": lambda i: str(i % 3).encode(), "txt": lambda i: f"picture {i}\n".encode()}
    data = read(make_tar(samples(pictures, encoded, **sides)), cache)
    assert np.array_equal(data.images, pictures)
    assert data.label.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert data.labels == ("0", "1", "2")
    assert data.captions == tuple(f"picture {i}" for i in range(7))
    named = {"cls": lambda i: ["ship", "cat 10", "cat 9"][i % 3].encode()}
    data = read(make_tar(samples(pictures, encoded, **named), "named.tar"), cache)
    assert data.labels == ("cat 9", "cat 10", "ship")
    assert data.label.tolist() == [2, 1, 0, 2, 1, 0, 2]


def test_captions_from_json(noise, encoded, make_tar, cache):
    tables = [{"caption": " one "}, {"text": "two \ud83d"}, {"caption": 3}, [], "no table", None]
    contents = [json.dumps(table).encode() for table in tables] + [b"{broken", b"[" * 100_000]
    files = samples(noise(8, 4, 4, 3), encoded, json=lambda i: contents[i])
    data = read(make_tar(files), cache)
    assert data.captions == ("one", "two \\ud83d", "", "", "", "", "", "")


def test_what_the_library_writes_is_read_and_grouped_as_it_does(noise, tmp_path, cache):
    webdataset = pytest.importorskip("webdataset", reason="is in the extra dev")
    pictures = noise(25, 6, 5, 3)
    folder = tmp_path / "shards"
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "set-%04d.tar"), maxcount=10, verbose=0) as writer:
        for i, picture in enumerate(pictures):
            key = f"some.folder/{i:03d}"
            writer.write({"__key__": key, "png": picture, "cls": i % 4, "txt": f"no. {i}", "depth.png": picture[::-1]})
    pattern = str(folder / "set-{0000..0002}.tar")
    data = read(pattern, cache)
    seen = list(webdataset.WebDataset(pattern, shardshuffle=False).decode("rgb8"))
    assert len(data) == len(seen) == 25
    for row, one in enumerate(seen):
        assert np.array_equal(data.images[row], one["png"])
        assert data.label[row] == one["cls"]
        assert data.captions[row] == one["txt"]
    assert np.array_equal(data.images, pictures)
    for same in (folder, folder / "set-*.tar"):
        assert read(same, cache).fingerprint == data.fingerprint


def test_an_archive_of_folders_is_read_as_the_folders_are(noise, encoded, make_folder, make_tar, cache):
    names = ["b/2.png", "b/10.png", "a/1.png", "a/deep/3.png"]
    files = {name: encoded(picture) for name, picture in zip(names, noise(4, 6, 5, 3), strict=True)}
    files["a/1.txt"] = b"the first"
    folder = read(make_folder(files), cache)
    assert folder.labels == ("a", "b")
    assert read(make_tar(files), cache).fingerprint == folder.fingerprint
    beside = {**files, "about.json": b"{}", "b/notes.cls": b"0"}
    assert read(make_tar(beside, "beside.tar"), cache).labels == ("a", "b")
    dotted = {f"./{name}": content for name, content in files.items()} | {"./._a": b"", ".hidden/x.png": b""}
    assert read(make_tar(dotted, "dotted.tar"), cache).fingerprint == folder.fingerprint


def test_the_picture_is_the_one_with_the_plain_name(noise, encoded, make_tar, cache):
    one, other = noise(2, 6, 5, 3)
    files = {"1.mask.png": encoded(other), "1.jpeg.png": encoded(other), "1.png": encoded(one), "1.cls": b"0"}
    files |= {"2.seg.png": encoded(other), "2.cls": b"0", "3.cls": b"1", "4.npy": b"x", "4.cls": b"1"}
    data = read(make_tar(files), cache)
    assert np.array_equal(data.images, [one, other])
    assert "2 samples have no picture" in data.report.notes


def test_samples_without_a_class(noise, encoded, make_tar, cache):
    files = samples(noise(20, 4, 4, 3), encoded, cls=lambda i: b"1")
    del files["0003.cls"]
    data = read(make_tar(files), cache)
    assert len(data) == 19
    assert data.report.skipped == (("0003.png", "has no class (.cls)"),)
    for i in range(4, 9):
        del files[f"{i:04d}.cls"]
    data = read(make_tar(files, "few.tar"), cache)
    assert len(data) == 20
    assert data.label is None
    assert "6 of 20 samples have no class, so classes are not taken" in data.report.notes


def test_an_archive_that_means_harm_writes_and_follows_nothing(noise, encoded, tmp_path, cache):
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(np.zeros((6, 5, 3), np.uint8)))
    path, good = tmp_path / "in" / "evil.tar", noise(6, 5, 3)
    path.parent.mkdir()

    def member(name, content=b"", **about):
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for key, value in about.items():
            setattr(info, key, value)
        return info, io.BytesIO(content)

    with tarfile.open(path, "w") as archive:
        for info, content in (
            member("../../out.png", encoded(good)),
            member("/etc/absolute.png", encoded(good)),
            member("link.png", type=tarfile.SYMTYPE, linkname=str(secret)),
            member("hard.png", type=tarfile.LNKTYPE, linkname="../secret.png"),
            member("device.png", type=tarfile.CHRTYPE),
            member("pipe.png", type=tarfile.FIFOTYPE),
            member("a.pkl", b"cos\nsystem\n(S'touch pwned'\ntR."),
        ):
            archive.addfile(info, content)
    before = {p for p in tmp_path.rglob("*") if cache not in (p, *p.parents)}
    data = read(path, cache)
    assert {p for p in tmp_path.rglob("*") if cache not in (p, *p.parents)} == before
    assert len(data) == 2
    assert (data.images == good).all()
    reasons = dict(data.report.skipped)
    for name in ("link.png", "hard.png", "device.png", "pipe.png"):
        assert reasons[name] == "not a regular file; links in an archive are not followed"
    assert "text, not a picture" in reasons["a.pkl"]


def test_archives_that_lie_about_sizes(noise, encoded, make_tar, tmp_path, cache):
    files = {f"{i}.png": encoded(noise(6, 5, 3, seed=i)) for i in range(3)}
    path = make_tar(files)
    whole = path.read_bytes()
    huge = tarfile.TarInfo("huge.png")
    huge.size = 2**40
    path.write_bytes(whole[:-1024].rstrip(b"\0").ljust(512 * 6, b"\0") + huge.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    with pytest.raises(UserError, match="cannot be read as a tar archive"):
        read(path, cache)
    assert len(read(make_tar(files, "again.tar"), cache)) == 3
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[:700])
    negative = tmp_path / "negative.tar"
    info = tarfile.TarInfo("x.png")
    info.size = -512
    negative.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2048)
    noise_file = tmp_path / "noise.tar"
    noise_file.write_bytes(os.urandom(4096))
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(make_tar(files, "inner.tar"))
    gz = tmp_path / "gz.tar.gz"
    gz.write_bytes(packed.read_bytes())
    with pytest.raises(UserError, match="compressed as a whole"):
        read(gz, cache)
    for wrong in (cut, negative, noise_file, packed):
        with pytest.raises(UserError) as caught:
            read(wrong, cache)
        assert str(wrong) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_what_lies_behind_damage_or_a_first_end_is_not_lost_without_a_word(noise, encoded, make_tar, tmp_path, cache):
    files = {f"{i}.png": encoded(noise(6, 5, 3, seed=i)) for i in range(3)}
    whole = make_tar(files).read_bytes()
    with tarfile.open(make_tar(files)) as archive:
        *_, last = archive
    damaged, end = bytearray(whole), last.offset_data + -(-last.size // 512) * 512
    damaged[last.offset] ^= 1
    path = tmp_path / "other.tar"
    for content, word in (
        (bytes(damaged), f"damaged at byte {last.offset:,}"),
        (whole[:end] + b"x", f"damaged at byte {end:,}"),
        (whole + whole, f"goes on behind its end at byte {end:,}"),
        (whole[:end] + b"\0" * 2**21 + whole, f"goes on behind its end at byte {end:,}"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=word) as caught:
            read(path, cache)
        assert "\n" not in str(caught.value)
    for content in (whole[:end], whole[:end] + b"\0" * 100, whole + b"\0" * 2**21):
        path.write_bytes(content)
        assert len(read(path, cache)) == 3


def test_an_index_is_the_archive_of_the_standard_library(noise, encoded, make_tar):
    long = "n" * 150 + "/" + "é" * 60 + ".png"
    files = {"a.png": encoded(noise(4, 4, 3)), long: encoded(noise(4, 4, 3, seed=1)), "c/d.txt": b"x"}
    path = make_tar(files)
    store = TarStore((path,))
    reader = store.reader()
    assert {entry.name: reader.read(entry) for entry in store.entries()} == files
    reader.close()


def test_patterns(tmp_path):
    for i in range(3):
        (tmp_path / f"a-{i:02d}.tar").touch()
        (tmp_path / f"b-{i}.tar").touch()
    assert [p.name for p in expand(str(tmp_path / "a-{00..02}.tar"))] == ["a-00.tar", "a-01.tar", "a-02.tar"]
    assert [p.name for p in expand(str(tmp_path / "?-*1.tar"))] == ["a-01.tar", "b-1.tar"]
    assert len(expand(str(tmp_path / "a-0{0..1}.tar"))) == 2
    for wrong, word in (
        ("a-{00..03}.tar", "names a-03.tar, and there is no such file"),
        ("c-*.tar", "no file has such a name"),
        ("a-{2..0}.tar", "is not a range"),
        ("a-{0..99999999999}.tar", "is not a range"),
        ("a-{0..9999}{0..9999}{0..9999}.tar", "more than"),
    ):
        with pytest.raises(UserError, match=word):
            expand(str(tmp_path / wrong))


def test_shards_with_one_name_twice(noise, encoded, make_tar, tmp_path, cache):
    pictures = noise(6, 4, 4, 3)
    for shard in range(2):
        rows = pictures[shard * 3 : shard * 3 + 3]
        make_tar(
            samples(rows, encoded, cls=lambda i, s=shard: str(s).encode(), txt=lambda i: b"same"), f"x-{shard}.tar"
        )
    data = read(tmp_path / "x-{0..1}.tar", cache)
    assert np.array_equal(data.images, pictures)
    assert data.label.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_jpeg_is_a_jpeg_wherever_it_lies(noise, make_tar, make_folder, cache):
    file = io.BytesIO()
    Image.fromarray(noise(16, 16, 3)).save(file, "JPEG")
    one = read(make_tar({"1.jpg": file.getvalue(), "1.cls": b"0"}), cache)
    two = read(make_folder({"1.jpg": file.getvalue()}), cache)
    assert np.array_equal(one.images, two.images)
