"""A folder with 200 broken files among 1,000: 800 are used, 200 are listed, each with its reason."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from limner.data import DataConfig, open_dataset


def _png(rng) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def _jpeg(rng) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def _tiff(array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "TIFF")
    return file.getvalue()


def _bomb(_) -> bytes:
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 10_000)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _flipped(rng) -> bytes:
    data = bytearray(_png(rng))
    data[data.index(b"IDAT") + 100] ^= 0xFF
    return bytes(data)


BREAKAGE = {  # kind: (what makes the file, a word of its reason)
    "zero bytes": (lambda rng: b"", "empty"),
    "truncated png": (lambda rng: _png(rng)[:300], "damaged"),
    "truncated jpeg": (lambda rng: _jpeg(rng)[:400], "damaged"),
    "header only": (lambda rng: _png(rng)[:20], "damaged"),
    "text": (lambda rng: b"this is no picture, whatever its name says\n" * 3, "text"),
    "noise": (lambda rng: rng.bytes(800), "not a picture"),
    "bomb": (_bomb, "bomb"),
    "flipped bits": (_flipped, "damaged"),
    "floating point": (lambda rng: _tiff(np.ones((16, 16), np.float32)), "floating-point"),
    "html": (lambda rng: b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "text"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("broken") / "set", np.random.default_rng(0)
    kinds = list(BREAKAGE)
    for i in range(1000):
        path = root / f"class{i % 2}" / f"{i:04d}.{'png' if i % 3 else 'jpg'}"  # names often lie of the format
        path.parent.mkdir(parents=True, exist_ok=True)
        if i % 5 == 0:
            kind = kinds[i // 5 % len(kinds)]
            path = path.with_name(f"{i:04d} {kind}.png")
            path.write_bytes(BREAKAGE[kind][0](rng))
        else:
            path.write_bytes(_png(rng) if i % 2 else _jpeg(rng))
    return root


def test_eight_hundred_are_used_and_two_hundred_listed(folder, tmp_path, capsys):
    data = open_dataset(DataConfig(str(folder)), cache=tmp_path)
    assert len(data) == data.report.used == 800
    assert np.bincount(data.label).tolist() == [400, 400]
    assert len(data.report.skipped) == 200
    for name, reason in data.report.skipped:
        kind = name.partition(" ")[2].removesuffix(".png")
        assert BREAKAGE[kind][1] in reason, (name, reason)
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    assert "800 pictures; 200 skipped" in line
    with open(data.report.path, encoding="utf-8") as file:
        listed = json.load(file)
    assert os.path.basename(data.report.path) == "data_report.json"
    assert listed["used"] == 800
    assert [tuple(pair) for pair in listed["skipped"]] == list(data.report.skipped)


def test_what_is_used_is_right(folder, tmp_path):
    data = open_dataset(DataConfig(str(folder)), cache=tmp_path, progress=False)
    skipped = {name for name, _ in data.report.skipped}
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*") if str(p.relative_to(folder)) not in skipped)
    for row in range(0, 800, 37):
        with Image.open(folder / names[row]) as image:
            assert np.array_equal(data.images[row], np.asarray(image)), names[row]
        assert data.labels[data.label[row]] == names[row].split("/")[0]


def test_things_that_are_no_files(tmp_path, encoded, noise):
    root = tmp_path / "odd"
    root.mkdir()
    (root / "good.png").write_bytes(encoded(noise(4, 4, 3)))
    (root / "dangling.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "pipe.png")
    (root / ".hidden.png").write_bytes(b"")
    data = open_dataset(DataConfig(str(root)), cache=tmp_path / "cache", progress=False)
    assert len(data) == 1
    assert [name for name, _ in data.report.skipped] == ["dangling.png", "pipe.png"]


def test_damage_inside_a_zip_costs_only_its_members(make_zip, encoded, noise, tmp_path):
    files = {f"{i}.png": encoded(noise(8, 8, 3, seed=i)) for i in range(6)}
    path = make_zip(files)
    data = bytearray(path.read_bytes())
    at = data.index(files["2.png"])
    data[at + 60] ^= 1  # inside the compressed pixels
    at = data.index(b"PK\3\4", data.index(b"4.png") - 40)
    data[at] = 0  # a local header
    path.write_bytes(bytes(data))
    opened = open_dataset(DataConfig(str(path)), cache=tmp_path / "cache", progress=False)
    assert len(opened) == 4
    assert dict(opened.report.skipped) == {
        "2.png": "its checksum does not match the archive's",
        "4.png": "its place in the archive is damaged",
    }
