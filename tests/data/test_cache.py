"""The cache under fire: killed, crowded, damaged, and on a full disk. No part of it is simulated."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from limner.config import from_json
from limner.data import DataConfig, open_dataset
from limner.data.build import build
from limner.data.cache import cache_root
from limner.data.resolve import resolve
from limner.data.sources import RawSource
from limner.data.survey import survey
from limner.errors import UserError
from processes import Process


def opened(source: Path, cache: Path, limit: int = 0) -> None:
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        print(open_dataset(str(source), cache=cache, progress=False).fingerprint)
    except UserError as error:
        print(error)
        sys.exit(2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A zip of 6,000 small PNG files: twelve chunks, some seconds of work."""
    import io
    import zipfile

    from PIL import Image

    path = tmp_path_factory.mktemp("many") / "many.zip"
    pixels = np.random.default_rng(0).integers(0, 256, (6000, 24, 24, 3), dtype=np.uint8)
    with zipfile.ZipFile(path, "w") as archive:
        for i, picture in enumerate(pixels):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "PNG", compress_level=1)
            archive.writestr(f"{i % 3}/{i}.png", file.getvalue() if i % 1000 else b"broken")
    return path


@pytest.fixture(scope="module")
def undisturbed(pictures, tmp_path_factory):
    return open_dataset(str(pictures), cache=tmp_path_factory.mktemp("undisturbed"), progress=False)


def test_a_second_opening_reads_nothing(pictures, undisturbed, tmp_path):
    moved = tmp_path / "moved.zip"
    shutil.copy2(pictures, moved)
    open_dataset(str(moved), cache=tmp_path, progress=False)
    (folder,) = [p for p in (tmp_path / "datasets").iterdir() if p.is_dir()]
    stamps = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    again = open_dataset(str(moved), cache=tmp_path, progress=False)
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == stamps
    assert set(stamps) == {"images.u8", "label.npy", "meta.json", "data_report.json"}
    assert again.fingerprint == undisturbed.fingerprint
    assert len(again) == 5994
    assert not again.images.flags.writeable


def test_a_killed_decode_goes_on_where_it_stopped(pictures, undisturbed, tmp_path):
    process = Process(opened, pictures, tmp_path)
    marks: list[Path] = []
    while process.running() and len(marks) < 2:
        marks = list(tmp_path.glob("datasets/*.partial/decode-*.json"))
        time.sleep(0.002)
    process.kill()
    process.end()
    kept = len(list(tmp_path.glob("datasets/*.partial/decode-*.json")))
    assert 2 <= kept <= 12
    (partial,) = tmp_path.glob("datasets/*.partial")

    seen: list[tuple[str, int, int]] = []
    resolved = resolve(DataConfig(str(pictures)), tmp_path)
    build(resolved.load(), DataConfig(str(pictures)), partial, lambda *step: seen.append(step))
    first = next(done for stage, done, _ in seen if stage == "decoding")
    assert first >= min((kept - 1) * 512, 6000)  # chunks are of 512 pictures, the last one shorter
    partial.rename(tmp_path / "x")
    assert (tmp_path / "x" / "images.u8").read_bytes() == undisturbed.images.tobytes()


def test_killed_again_and_again(pictures, undisturbed, tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(3):
        process = Process(opened, pictures, tmp_path)
        while process.running() and not (tmp_path / "datasets").exists():
            time.sleep(0.005)
        time.sleep(float(rng.uniform(0, 0.5)))
        process.kill()
        process.end()
    data = open_dataset(str(pictures), cache=tmp_path, progress=False)
    assert data.fingerprint == undisturbed.fingerprint
    assert data.report.skipped == undisturbed.report.skipped


def test_pixels_that_changed_behind_a_mark_are_made_again(noise, tmp_path):
    source, config = RawSource(noise(3000, 4, 4, 1)), DataConfig("x")
    seen: list[tuple[str, int, int]] = []

    def stop(stage: str, done: int, total: int) -> None:
        if done >= 1024:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(source, config, tmp_path, stop)
    with (tmp_path / "images.u8").open("r+b") as file:
        file.write(b"\0" * 16)
    build(source, config, tmp_path, lambda *step: seen.append(step))
    assert seen[0] == ("decoding", 512, 3000)
    assert (tmp_path / "images.u8").read_bytes() == source.images.tobytes()


def test_pieces_of_a_run_with_more_helpers_are_not_taken_for_its_own(noise, encoded, make_zip, tmp_path):
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("needs two cores")
    path = make_zip({f"{i}.png": encoded(noise(4 + i % 3, 4, 3)) for i in range(600)})
    source = resolve(DataConfig(str(path)), tmp_path).load()
    together = survey(source, tmp_path, lambda *step: None)
    os.sched_setaffinity(0, {min(cores)})
    try:
        alone = survey(source, tmp_path, lambda *step: None)
    finally:
        os.sched_setaffinity(0, cores)
    assert alone == together
    assert alone.total() == 600


def test_three_processes_open_one_cache(pictures, undisturbed, tmp_path):
    processes = [Process(opened, pictures, tmp_path) for _ in range(3)]
    answers = [process.end() for process in processes]
    assert [one.out.strip() for one in answers] == [undisturbed.fingerprint] * 3, answers
    assert len([p for p in (tmp_path / "datasets").iterdir() if p.is_dir()]) == 1


def test_a_full_disk_is_one_line_and_loses_nothing(pictures, undisturbed, tmp_path):
    ended = Process(opened, pictures, tmp_path, 3 * 2**20).end()  # the pictures need 10 MiB
    assert ended.code == 2, ended.err
    assert ended.out.startswith(f"cannot write the data cache in '{tmp_path}")
    assert ended.out.count("\n") == 1
    assert len(list(tmp_path.glob("datasets/*.partial/decode-*.json"))) >= 1
    assert open_dataset(str(pictures), cache=tmp_path, progress=False).fingerprint == undisturbed.fingerprint


@pytest.mark.parametrize("damage", ["meta.json", "images.u8", "truncated"])
def test_a_damaged_cache_is_made_again(damage, noise, tmp_path):
    np.savez(tmp_path / "s.npz", images=noise(10, 4, 4))
    first = open_dataset(str(tmp_path / "s.npz"), cache=tmp_path, progress=False)
    folder = Path(first.report.path).parent
    if damage == "truncated":
        os.truncate(folder / "images.u8", 5)
    else:
        (folder / damage).unlink()
    again = open_dataset(str(tmp_path / "s.npz"), cache=tmp_path, progress=False)
    assert again.fingerprint == first.fingerprint
    assert np.array_equal(again.images[..., 0], noise(10, 4, 4))


def test_a_cache_that_cannot_be_written(noise, tmp_path):
    np.savez(tmp_path / "s.npz", images=noise(10, 4, 4))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write the data cache"):
        open_dataset(str(tmp_path / "s.npz"), cache=tmp_path / "file", progress=False)


def test_where_the_cache_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path / "named"))
    assert cache_root(None) == tmp_path / "named"
    monkeypatch.delenv("LIMNER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root(None) == tmp_path / "xdg" / "limner"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root(None) == tmp_path / ".cache" / "limner"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_statistics_of_the_pixels(channels, noise, tmp_path):
    pixels = noise(3000, 7, 5, channels)
    pixels[..., 0] //= 2
    np.savez(tmp_path / "s.npz", images=pixels)
    data = open_dataset(str(tmp_path / "s.npz"), cache=tmp_path, progress=False)
    values = data.images / 127.5 - 1
    assert data.stats.mean == pytest.approx(values.mean(axis=(0, 1, 2)), rel=1e-9)
    around = values - values.mean(axis=(0, 1, 2))
    assert data.stats.std == pytest.approx(np.sqrt((around**2).mean()), rel=1e-9)


def test_what_was_decoded_before_there_were_16_bits_is_found_and_is_the_same(tmp_path, encoded, make_zip):
    """Fingerprints as limner gave them before; a run that began then must be able to go on."""
    rng = np.random.default_rng(11)
    pictures = [rng.integers(0, 256, (9, 7, 3), dtype=np.uint8) for _ in range(20)]
    files = {f"{'ab'[i % 2]}/{i}.png": encoded(picture) for i, picture in enumerate(pictures)}
    path = make_zip({**files, "metadata.jsonl": b'{"file_name": "a/0.png", "text": "x"}'})
    arrays = tmp_path / "s.npz"
    np.savez(arrays, images=rng.integers(0, 256, (30, 6, 5), dtype=np.uint8), labels=np.arange(30) % 4)
    known = (
        (DataConfig(str(path)), "805403bd11d637f8ee524117c56986128192b49761c1035a42eadcbe1dff3489"),
        (
            DataConfig(str(path), size=(8, 8), mode="L"),
            "84df6e052dfdf3c868b181f0b0a6b45c9ff0764899bffeb009b037e6c32e9bdc",
        ),
        (DataConfig(str(arrays)), "cf50629a1081f9de272ca3cddd466933b2125ab40e21523c8aad80dda16a85a8"),
    )
    for config, fingerprint in known:
        assert open_dataset(config, cache=tmp_path / "cache", progress=False).fingerprint == fingerprint
        resolved = resolve(config, tmp_path)
        settings = {name: getattr(config, name) for name in ("size", "mode", "fit", "background", "limit")}
        key = hashlib.sha256(json.dumps([2, settings, resolved.key]).encode()).hexdigest()[:32]
        assert (tmp_path / "cache" / "datasets" / key / "images.u8").is_file()


def test_settings_that_were_written_before_are_still_read():
    written = {"source": "x", "size": [4, 5], "mode": "L", "fit": "pad", "background": [1, 2, 3], "limit": None}
    config = from_json(DataConfig, written, "recipe.json")
    assert config == DataConfig("x", size=(4, 5), mode="L", fit="pad", background=(1, 2, 3))
    assert (config.bits, config.window, config.stream, config.buckets) == ("auto", "full", "auto", 0)
