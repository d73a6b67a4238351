"""evaluate(): what a caller gets, the cache, and mistakes."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from limner.errors import UserError
from limner.features import load_extractor
from limner.metrics import METRICS, Report, evaluate
from limner.metrics.scores import count_name
from limner.metrics.sides import Pictures

MIRROR = os.environ.get("LIMNER_MIRROR")
NAMES = ["fd", "kid", "precision", "recall", "density", "coverage", "originality"]
CLASSIFIED = ["inception_score"]


def _blobs(n: int, seed: int, channels: int = 1, kinds: int = 4) -> np.ndarray:
    """Discs of ``kinds`` sizes at random places, 16×16."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16]
    centre = rng.uniform(4, 12, (2, n, 1, 1))
    radius = 2 + rng.integers(0, kinds, (n, 1, 1))
    ink = 1 / (1 + np.exp(2 * (np.hypot(y - centre[0], x - centre[1]) - radius)))
    return np.repeat((255 * ink[..., None]).astype(np.uint8), channels, axis=3)


@dataclass(frozen=True)
class _Set:
    images: np.ndarray
    fingerprint: str


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluate(_blobs(400, 1), _blobs(1200, 2), baseline=True, seed=5)


def test_names_carry_the_protocol(report: Report) -> None:
    assert list(report.scores) == [
        "fd_wavelets_400",
        "kid_wavelets_400",
        "precision_wavelets_400_k5",
        "recall_wavelets_400_k5",
        "density_wavelets_400_k5",
        "coverage_wavelets_400_k5",
        "near_copies_pixels_400",
    ]
    assert [count_name(n) for n in (500, 2000, 2500, 10_000)] == ["500", "2k", "2500", "10k"]
    assert list(METRICS) == NAMES + CLASSIFIED


def test_receipts_and_intervals(report: Report) -> None:
    for score in report.scores.values():
        assert score.low <= score.value <= score.high
        r = score.receipt
        assert (r.n, r.seed) == (400, 5)
        assert r.n_reference == (400 if score.metric in {"precision", "recall", "density", "coverage"} else 1200)
        assert len(r.reference) == 64
        assert r.interval
        assert str(r.n) in str(r)
    assert json.loads(json.dumps(report.to_dict()))["scores"]["fd_wavelets_400"]["receipt"]["extractor"] == "wavelets"
    assert "fid" not in json.dumps(report.to_dict()).lower()


def test_what_the_field_has_names_for_is_called_so_and_nothing_else() -> None:
    plain = load_extractor("wavelets", shape=(16, 16, 1))
    assert not plain.published
    named = replace(plain, name="inception", published={"fd": "fid_inception"})
    images, reference = _blobs(60, 1), _blobs(80, 2)
    report = evaluate(images, reference, extractor=named, metrics=("fd", "recall"))
    assert list(report.scores) == ["fid_inception_60", "recall_inception_60_k5"]
    assert report.value("fd") == evaluate(images, reference, metrics=("fd",)).value("fd")


def test_samples_with_their_classes_in_turn_do_not_widen_the_interval() -> None:
    """Ten kinds in turn: groups of every tenth sample would be one kind each."""
    kinds = [_blobs(50, 10 + kind, kinds=1) // (1 + kind) for kind in range(10)]
    in_turn = np.stack(kinds, axis=1).reshape(-1, 16, 16, 1)
    reference = np.concatenate([_blobs(80, 30 + kind, kinds=1) // (1 + kind) for kind in range(10)])
    (score,) = evaluate(in_turn, reference, metrics=("fd",)).scores.values()
    mixed = in_turn[np.random.default_rng(0).permutation(500)]
    (other,) = evaluate(mixed, reference, metrics=("fd",)).scores.values()
    assert score.value == pytest.approx(other.value)
    assert (score.high - score.low) < 2 * (other.high - other.low)


def test_real_pictures_score_as_the_baseline_does(report: Report) -> None:
    assert set(report.baseline) == set(NAMES)
    for metric in ("precision", "recall", "coverage"):
        assert report.value(metric) == pytest.approx(report.baseline[metric].value, abs=0.12)
    assert [row.name for row in report.rows()] == list(report.scores)
    assert all(row.real is not None for row in report.rows())


def test_what_the_extractor_is_known_to_miss_stands_beside_its_scores(report: Report) -> None:
    assert any(note.startswith("wavelets see colour") and "recall" in note for note in report.notes)


def test_the_order_of_the_samples_does_not_matter_much_and_the_seed_decides_the_choice() -> None:
    images, reference = _blobs(300, 3), _blobs(500, 4)
    metrics = ("fd", "kid", "precision", "recall")
    first = evaluate(images, reference, metrics=metrics, n=100, seed=1)
    again = evaluate(images, reference, metrics=metrics, n=100, seed=1)
    other = evaluate(images, reference, metrics=metrics, n=100, seed=2)
    assert first == again
    assert first.value("fd") != other.value("fd")


def test_faults_move_the_right_measures() -> None:
    reference, good = _blobs(800, 5), _blobs(400, 6)
    rng = np.random.default_rng(0)
    noisy = np.clip(good + rng.normal(0, 40, good.shape), 0, 255).astype(np.uint8)
    narrow = _blobs(400, 7, kinds=1)
    copied = np.concatenate([reference[:200], good[200:]])
    metrics = ("fd", "precision", "recall", "originality")
    scored = {
        name: evaluate(x, reference, metrics=metrics)
        for name, x in {"good": good, "noisy": noisy, "narrow": narrow, "copied": copied}.items()
    }
    for name in ("noisy", "narrow"):
        assert scored[name].value("fd") > 2 * scored["good"].value("fd")
    assert scored["noisy"].value("precision") < scored["good"].value("precision") / 2
    assert scored["narrow"].value("recall") < scored["good"].value("recall") / 2
    assert scored["copied"].value("originality") >= 0.5
    copies = scored["copied"].copies
    assert copies is not None
    planted = [(s, t) for s, t in zip(scored["copied"].looked_at, copies.index.tolist(), strict=True) if s < 200]
    assert all(np.array_equal(copied[s], reference[t]) for s, t in planted)


def test_the_cache_gives_the_same_and_a_damaged_entry_is_made_again(tmp_path: Path) -> None:
    images, reference = _blobs(100, 1), _Set(_blobs(300, 2), "a" * 64)
    fresh = evaluate(images, reference, cache=tmp_path, baseline=True)
    entries = sorted(tmp_path.iterdir())
    assert len(entries) == 2  # features and moments of the reference, and nothing of held-out pictures
    kept = evaluate(images, reference, cache=tmp_path, baseline=True)
    assert kept == fresh
    assert kept.to_dict() == fresh.to_dict()
    for i, entry in enumerate(entries):
        content = bytearray(entry.read_bytes())
        damaged = content[: len(content) // 2] if i % 3 == 0 else b"" if i % 3 == 1 else content
        if i % 3 == 2:
            content[-3] ^= 255
        entry.write_bytes(damaged)
    assert evaluate(images, reference, cache=tmp_path, baseline=True) == fresh
    assert sorted(tmp_path.iterdir()) == entries
    times = [entry.stat().st_mtime_ns for entry in entries]
    assert evaluate(images, reference, cache=tmp_path, baseline=True) == fresh
    assert [entry.stat().st_mtime_ns for entry in entries] == times


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("in the way")
    images, reference = _blobs(50, 1), _blobs(60, 2)
    assert evaluate(images, reference, cache=occupied) == evaluate(images, reference)


def test_another_reference_is_another_entry(tmp_path: Path) -> None:
    images = _blobs(50, 1)
    a = evaluate(images, _blobs(80, 2), metrics=("fd",), cache=tmp_path)
    b = evaluate(images, _blobs(80, 3), metrics=("fd",), cache=tmp_path)
    assert a.value("fd") != b.value("fd")


def test_held_out_pictures_may_be_given() -> None:
    report = evaluate(_blobs(60, 1), _blobs(200, 2), held_out=_blobs(70, 3), metrics=("coverage",), baseline=True)
    assert report.baseline["coverage"].receipt.n == 60


SMALL = ["kid", "precision", "density", "originality"]


@pytest.mark.parametrize(
    ("count", "known"), [(20, ["kid", "originality"]), (30, SMALL), (45, SMALL), (49, SMALL), (50, NAMES)]
)
def test_a_small_reference_has_the_baseline_that_it_can_have(count: int, known: list[str]) -> None:
    report = evaluate(_blobs(40, 1), _blobs(count, 2), baseline=True)
    assert [score.metric for score in report.scores.values()] == NAMES
    assert list(report.baseline) == known
    left = ", ".join(name for name in NAMES if name not in known)
    said = [note for note in report.notes if "too few" in note]
    assert said == ([f"{count // 5} held-out pictures are too few for a baseline of {left}"] if left else [])


def test_a_baseline_of_fewer_pictures_is_told() -> None:
    for count, told in ((200, True), (300, False)):
        report = evaluate(_blobs(60, 1), _blobs(count, 2), metrics=("fd",), baseline=True)
        assert any("of 40 held-out pictures, the scores are of 60" in note for note in report.notes) == told
    copies = evaluate(_blobs(60, 1), _blobs(200, 2), metrics=("originality",))
    assert not any("held-out" in note for note in copies.notes)


def test_mistakes_are_one_line() -> None:
    images, reference = _blobs(40, 1), _blobs(60, 2)
    for call, message in (
        (lambda: evaluate(images, reference, metrics=("recal",)), "did you mean 'recall'"),
        (lambda: evaluate(images, reference, metrics=()), "no metric"),
        (lambda: evaluate(images[:3], reference), "only 3 images"),
        (lambda: evaluate(images, reference[:3]), "only 3 reference"),
        (lambda: evaluate(images, reference, n=1000), "n = 1000"),
        (lambda: evaluate(_blobs(40, 1, channels=3), reference), r"RGB.*grey"),
        (lambda: evaluate(images[:, :8], reference), r"8x16.*16x16"),
        (lambda: evaluate(images.astype(np.float32), reference), "uint8"),
        (lambda: evaluate(images[..., 0], reference), "N, H, W, C"),
        (lambda: evaluate(images, reference, extractor=load_extractor("wavelets", shape=(8, 8, 1))), "set up for"),
    ):
        with pytest.raises(UserError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.skipif(not MIRROR, reason="LIMNER_MIRROR names no folder with real pictures and weights")
def test_held_out_digits_score_as_measured_before() -> None:
    path = Path(str(MIRROR)) / "mnist" / "train-images-idx3-ubyte.gz"
    with gzip.open(path) as file:
        digits = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    chosen = digits[np.random.default_rng(0).permutation(len(digits))[:4000]]
    report = evaluate(chosen[:2000], chosen[2000:], extractor=load_extractor("lenet"), metrics=NAMES[:1] + NAMES[2:6])
    # Halves of 2,000 score 2.7 ± 0.7 in an independent trial.
    assert 1.2 < report.value("fd") < 5
    assert report.value("precision") > 0.9
    assert report.value("recall") > 0.9
    assert report.value("coverage") > 0.9


def test_a_part_of_the_reference_is_the_same_for_every_seed_and_copies_keep_their_numbers() -> None:
    reference = np.random.default_rng(2).integers(0, 256, (700, 16, 16, 1), dtype=np.uint8)
    copied = reference[::2][:150]
    report = evaluate(copied, reference, n_reference=400, metrics=("fd", "originality"), seed=1)
    assert {score.receipt.n_reference for score in report.scores.values()} == {400}
    found = report.to_dict()["near_copies"]
    assert all(np.array_equal(copied[one["sample"]], reference[one["training"]]) for one in found if one["ratio"] == 0)
    assert 60 < sum(one["ratio"] == 0 for one in found) < 120  # of 150, four in seven were looked at
    again = evaluate(copied, reference, n_reference=400, metrics=("fd",), seed=2)
    assert again.value("fd") == pytest.approx(report.value("fd"))
    with pytest.raises(UserError, match="only 0 reference pictures"):
        evaluate(copied, reference, n_reference=0)


def test_a_reference_with_its_classes_in_turn_is_thinned_to_all_of_them() -> None:
    """Every third picture would be of one class."""
    kinds = [_blobs(300, 10 + kind, kinds=1) // (1 + kind) for kind in range(3)]
    in_turn = np.stack(kinds, axis=1).reshape(-1, 16, 16, 1)
    fresh = np.concatenate([_blobs(100, 30 + kind, kinds=1) // (1 + kind) for kind in range(3)])
    whole = evaluate(fresh, in_turn, metrics=("fd",)).value("fd")
    assert evaluate(fresh, in_turn, n_reference=300, metrics=("fd",)).value("fd") < 4 * whole
    assert evaluate(fresh, in_turn[::3], metrics=("fd",)).value("fd") > 40 * whole


def test_the_cache_keeps_nothing_of_what_was_held_out(tmp_path: Path) -> None:
    images, reference = _blobs(200, 1), _blobs(600, 2)
    evaluate(images, reference, cache=tmp_path, baseline=True)
    kept = sorted(tmp_path.iterdir())
    for n, seed in ((100, 0), (150, 1), (200, 2)):
        evaluate(images, reference, n=n, seed=seed, cache=tmp_path, baseline=True)
    assert sorted(tmp_path.iterdir()) == kept


def test_what_cannot_be_kept_is_looked_at_once(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("in the way")
    images, reference = _blobs(40, 1), _blobs(60, 2)
    plain, seen = load_extractor("pixels", shape=(16, 16, 1)), []

    def forward(batch: np.ndarray) -> torch.Tensor:
        seen.append(len(batch))
        return plain.forward(batch)

    evaluate(images, reference, extractor=replace(plain, forward=forward), metrics=("kid",), cache=occupied)
    assert sorted(seen) == [40, 60]


def test_samples_are_not_hashed_and_a_reference_is_a_part_at_a_time(tmp_path: Path) -> None:
    large = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.uint8, (3000, 128, 128, 1))
    large[:] = np.random.default_rng(0).integers(0, 256, (3000, 1, 1, 1), dtype=np.uint8)
    digest = hashlib.sha256(repr(large.shape).encode() + large.tobytes()).hexdigest()
    tracemalloc.start()
    pixels = load_extractor("pixels", shape=(128, 128, 1))
    (score,) = evaluate(large, large[:20].copy(), extractor=pixels, metrics=("kid",), n=20).scores.values()
    assert tracemalloc.get_traced_memory()[1] < large.nbytes / 10
    assert score.receipt.n == 20
    assert Pictures.of(large, "pictures").fingerprint == digest
    assert tracemalloc.get_traced_memory()[1] < large.nbytes / 2
    tracemalloc.stop()
