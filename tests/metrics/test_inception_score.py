"""The Inception Score: closed forms, a peer, properties, and names that carry the classifier."""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.errors import UserError
from limner.features import load_extractor
from limner.metrics import evaluate, inception_score

MIRROR = os.environ.get("LIMNER_MIRROR")


def _logits(n: int, k: int, seed: int, scale: float = 2.0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) * scale


def test_certain_and_even_is_the_number_of_classes_and_undecided_is_one() -> None:
    sure = torch.full((70, 7), -1000.0)
    sure[torch.arange(70), torch.arange(70) % 7] = 1000.0
    assert inception_score(sure).mean == pytest.approx(7, rel=1e-12)
    assert inception_score(sure).std == pytest.approx(0, abs=1e-12)
    assert inception_score(_logits(1, 7, 0).expand(70, 7)).mean == pytest.approx(1, rel=1e-12)
    one_class = torch.full((70, 7), -1000.0)
    one_class[:, 3] = 1000.0
    assert inception_score(one_class).mean == pytest.approx(1, rel=1e-12)


@given(st.floats(0.01, 0.99), st.integers(1, 9))
def test_two_kinds_of_samples_in_closed_form(p: float, of_ten: int) -> None:
    """A share q of samples says (p, 1 - p), the others (1 - p, p): exp of the mutual information of label and kind."""
    q = of_ten / 10
    kinds = torch.tensor([[math.log(p), math.log(1 - p)]] * of_ten + [[math.log(1 - p), math.log(p)]] * (10 - of_ten))

    def entropy(x: float) -> float:
        return -x * math.log(x) - (1 - x) * math.log(1 - x)

    marginal = q * p + (1 - q) * (1 - p)
    expected = math.exp(entropy(marginal) - entropy(p))
    assert inception_score(kinds.double(), splits=1).mean == pytest.approx(expected, rel=1e-6)
    assert inception_score(kinds.double().repeat(5, 1), splits=5).mean == pytest.approx(expected, rel=1e-6)


def test_torchmetrics_agrees() -> None:
    from torchmetrics.image.inception import InceptionScore

    class Given(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    logits = _logits(500, 30, 1)
    peer = InceptionScore(feature=Given(), splits=10)
    peer.update(logits)
    torch.manual_seed(9)
    mean, std = peer.compute()
    torch.manual_seed(9)
    found = inception_score(logits[torch.randperm(500)])  # the peer's own shuffle
    assert found.mean == pytest.approx(float(mean), rel=1e-5)
    assert found.std * math.sqrt(10 / 9) == pytest.approx(float(std), rel=1e-4)  # published is the plain deviation


@given(st.integers(10, 80), st.integers(2, 12), st.integers(0, 50))
def test_bounds_and_terms(n: int, k: int, seed: int) -> None:
    found = inception_score(_logits(n, k, seed))
    assert 1 - 1e-12 <= found.mean <= k + 1e-9
    assert found.terms.shape == (n,)
    if n % 10 == 0:
        assert float(found.terms.mean()) == pytest.approx(found.mean, rel=1e-12)
    shifted = inception_score(_logits(n, k, seed) + 100.0)
    assert shifted.mean == pytest.approx(found.mean, rel=1e-4)


def test_splits_are_consecutive_and_uneven_ones_are_whole() -> None:
    logits = _logits(23, 5, 2)
    parts = [inception_score(logits[i * 23 // 10 : (i + 1) * 23 // 10], splits=1).mean for i in range(10)]
    found = inception_score(logits)
    assert found.mean == pytest.approx(np.mean(parts), rel=1e-12)
    assert found.std == pytest.approx(np.std(parts), rel=1e-9)
    with pytest.raises(ValueError, match="cannot be split"):
        inception_score(logits[:9])


def test_extractors_that_name_no_classes_are_refused() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    with pytest.raises(UserError, match="'wavelets' does not; take inception"):
        evaluate(images, images, metrics=("inception_score",))


@pytest.mark.skipif(not MIRROR, reason="LIMNER_MIRROR names no folder with real pictures and weights")
def test_real_digits_score_nearly_ten_over_lenet_and_sorted_ones_the_same() -> None:
    folder = Path(str(MIRROR)) / "mnist"
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        digits = np.frombuffer(file.read(16 + 2000 * 784), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + 2000), np.uint8, offset=8)
    extractor = load_extractor("lenet")
    metrics = ("fd", "inception_score")
    report = evaluate(digits, digits[:500], extractor=extractor, metrics=metrics)
    assert list(report.scores) == ["fd_lenet_2k", "is_lenet_2k"]
    score = report.scores["is_lenet_2k"]
    assert 9.3 < score.low < score.value < score.high < 10
    assert "10 splits" in score.receipt.settings
    by_class = evaluate(digits[np.argsort(labels)], digits[:500], extractor=extractor, metrics=metrics)
    assert by_class.value("inception_score") == pytest.approx(score.value, abs=0.05)
    threes = evaluate(digits[labels == 3], digits[:500], extractor=extractor, metrics=metrics)
    assert threes.value("inception_score") < 1.3


@pytest.mark.skipif(not MIRROR, reason="LIMNER_MIRROR names no folder with real weights")
@pytest.mark.parametrize("name", ["resnet-cifar", "squeezenet"])
def test_other_classifiers_give_scores_under_their_own_names(name: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    report = evaluate(images, images, extractor=load_extractor(name), metrics=("inception_score",))
    (score,) = report.scores.values()
    assert score.name == f"is_{name}_20"
    assert 1 <= score.low <= score.value <= score.high
