"""Measures within classes: right over all and wrong in each, means and their intervals, what a classifier reads."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from limner.errors import UserError
from limner.features import Extractor, Images, load_extractor
from limner.metrics import Moments, evaluate, frechet_distance, per_class

MIRROR = os.environ.get("LIMNER_MIRROR")
CLASSES = ("dark", "bright")


def _pictures(n: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Noise about two levels of grey, 8×8, in turn."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    images = np.where(label == 0, 60, 190)[:, None, None, None] + rng.integers(-30, 31, (n, 8, 8, 1))
    return images.astype(np.uint8), [CLASSES[k] for k in label]


def _mean(images: Images) -> torch.Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(images)).float().flatten(1)
    return torch.stack([pixels.mean(1), pixels.std(1)], 1)


def _logits(images: Images) -> torch.Tensor:
    bright = _mean(images)[:, 0] - 125
    return torch.stack([-bright, bright], 1)


_LEVEL = Extractor("level", 2, "0" * 12, "none", (1,), _mean, logits=_logits, classes=CLASSES)


def test_swapped_classes_are_right_over_all_and_wrong_in_each() -> None:
    real, names = _pictures(800, 1)
    images, asked = _pictures(400, 2)
    swapped = [CLASSES[1 - CLASSES.index(name)] for name in asked]
    assert evaluate(images, real, extractor=_LEVEL, metrics=("fd",)).value("fd") < 1
    good = per_class(images, asked, real, names, extractor=_LEVEL, baseline=True)
    bad = per_class(images, swapped, real, names, extractor=_LEVEL)
    assert good.means["class_fd"].value < 1
    assert bad.means["class_fd"].value > 100
    assert bad.means["class_coverage"].value == 0
    assert good.means["label_accuracy"].value == good.baseline["label_accuracy"].value == 1
    assert bad.means["label_accuracy"].value == 0
    assert bad.means["label_accuracy"].name == "label_accuracy_level_400"


def test_scores_are_those_of_the_class_alone() -> None:
    real, names = _pictures(300, 1)
    images, asked = _pictures(200, 2)
    found = per_class(images, asked, real, names, extractor=_LEVEL)
    assert list(found.classes) == ["bright", "dark"]
    for name, scores in found.classes.items():
        mine, theirs = images[np.array(asked) == name], real[np.array(names) == name]
        expected = frechet_distance(Moments.of(_mean(mine)), Moments.of(_mean(theirs)))
        assert scores["fd"].value == pytest.approx(expected, rel=1e-9)
        assert (scores["fd"].name, scores["coverage"].name) == ("fd_level_100", "coverage_level_100_k5")
        assert (scores["fd"].receipt.n, scores["fd"].receipt.n_reference) == (100, 150)


def test_means_weigh_classes_alike_and_their_intervals_narrow() -> None:
    real, names = _pictures(400, 1)
    images, asked = _pictures(300, 2)
    keep = [i for i, name in enumerate(asked) if name == "dark" or i < 100]
    found = per_class(images[keep], [asked[i] for i in keep], real, names, extractor=_LEVEL)
    mean, each = found.means["class_fd"], [scores["fd"] for scores in found.classes.values()]
    assert [score.receipt.n for score in each] == [50, 150]
    assert mean.value == pytest.approx(np.mean([score.value for score in each]))
    assert mean.name == "class_fd_level_200"
    assert "mean over 2 classes of 50 to 150 samples" in str(mean.receipt)
    assert mean.low < mean.value < mean.high
    halves = [max(score.high - score.value, score.value - score.low) for score in each]
    assert mean.high - mean.value == pytest.approx(np.hypot(*halves) / 2)
    coverage = found.means["class_coverage"]
    assert 0 <= coverage.low <= coverage.value <= coverage.high <= 1
    assert [row.name for row in found.rows()] == ["class_fd_level_200", "class_coverage_level_200_k5",
                                                  "label_accuracy_level_200"]  # fmt: skip
    assert json.loads(json.dumps(found.to_dict()))["classes"]["dark"]["fd"]["metric"] == "fd"


def test_an_extractor_of_groups_and_one_of_another_size(tmp_path: Path) -> None:
    real, names = _pictures(200, 1)
    images, asked = _pictures(100, 2)
    first = per_class(images, asked, real, names, cache=tmp_path, baseline=False)
    assert "label_accuracy" not in first.means
    assert first.means["class_fd"].name == "class_fd_wavelets_100"
    entries = sorted(tmp_path.iterdir())
    assert per_class(images, asked, real, names, cache=tmp_path) == first
    assert sorted(tmp_path.iterdir()) == entries
    assert per_class(images, asked, real, names) == first


def test_classes_with_few_pictures_are_left_out_and_named() -> None:
    real, names = _pictures(300, 1)
    images, asked = _pictures(100, 2)
    asked[:5] = ["rare"] * 5
    found = per_class(images, asked, real, names, extractor=_LEVEL)
    assert set(found.classes) == set(CLASSES)
    assert any("1 classes have fewer than 20 pictures" in note and "rare" in note for note in found.notes)
    assert "label_accuracy" not in found.means  # the classifier does not know all that was asked for


def test_mistakes_are_one_line() -> None:
    real, names = _pictures(100, 1)
    images, asked = _pictures(60, 2)
    for call, message in (
        (lambda: per_class(images, asked[:9], real, names), "9 labels for 60 pictures"),
        (lambda: per_class(images, ["other"] * 60, real, names), "no class has 20.*other.*bright, dark"),
        (lambda: per_class(images, asked, real, names, metrics=("originality",)), "not measured within classes"),
        (lambda: per_class(images, asked, real, names, metrics=("fdd",)), "did you mean 'fd'"),
        (lambda: per_class(images, asked, np.repeat(real, 3, 3), names, extractor=_LEVEL), "reads grey"),
    ):
        with pytest.raises(UserError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.skipif(not MIRROR, reason="LIMNER_MIRROR names no folder with real pictures and weights")
def test_real_digits_are_read_and_shuffled_labels_are_not() -> None:
    folder = Path(str(MIRROR)) / "mnist"
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        digits = np.frombuffer(file.read(16 + 4000 * 784), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = [str(k) for k in np.frombuffer(file.read(8 + 4000), np.uint8, offset=8)]
    images, asked, real, known = digits[:1500], labels[:1500], digits[1500:], labels[1500:]
    extractor = load_extractor("lenet")
    good = per_class(images, asked, real, known, extractor=extractor, baseline=True)
    assert len(good.classes) == 10
    assert good.means["label_accuracy"].low > 0.97
    assert good.baseline["label_accuracy"].low > 0.96
    assert good.means["class_coverage"].value > 0.9
    wrong = per_class(images, asked[::-1], real, known, extractor=extractor)
    assert wrong.means["label_accuracy"].value < 0.2
    assert wrong.means["class_fd"].value > 3 * good.means["class_fd"].value
    assert wrong.means["class_coverage"].value < 0.7


def test_classes_of_the_reference_without_samples_are_named() -> None:
    real, names = _pictures(300, 1)
    images, asked = _pictures(100, 2)
    names[:100] = ["third"] * 100
    found = per_class(images, asked, real, names, extractor=_LEVEL)
    assert "1 classes of the reference are not among the samples: third" in found.notes
    assert not any("not among" in note for note in per_class(images, asked, images, asked, extractor=_LEVEL).notes)


def test_what_counts_do_to_scores_is_told_as_it_is_over_all_classes() -> None:
    """Few samples for the dimensions of the wavelets' bands, and a baseline of another count."""
    real, names = _pictures(600, 1)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 200, 200, 1), dtype=np.uint8)  # bands of 8 x 8, and 40 samples of each class
    wide = per_class(images, _pictures(80, 2)[1], images, _pictures(80, 2)[1], metrics=("fd",))
    assert "40 samples of a class for 64 dimensions: the Fréchet distance is biased upwards" in wide.notes
    assert "only 40 samples of a class: compare these scores with those of equal counts alone" in wide.notes
    few, asked = _pictures(400, 2)
    found = per_class(few, asked, real, names, extractor=_LEVEL, baseline=True)
    told = "the baseline is of 120 held-out pictures of these classes, the scores are of 400 samples of these classes"
    assert any(note.startswith(told) for note in found.notes)
    some = per_class(few[:60], asked[:60], real[:100], names[:100], extractor=_LEVEL, baseline=True)
    assert not some.baseline
    assert "20 held-out pictures of these classes are too few for a baseline of fd, coverage" in some.notes
