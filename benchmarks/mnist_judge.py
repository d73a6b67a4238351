"""The judge of the MNIST benchmarks: generated digits against all 60,000 training pictures, through LeNet's features.

    LIMNER_MIRROR=DIR python benchmarks/mnist_judge.py        # what real held-out digits score

The Fréchet distance, coverage, recall, precision and density look at all 60,000; near copies are sought among all of
them for 2,000 of the samples.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from limner.data import Dataset, open_dataset
from limner.data.cache import cache_root
from limner.features import classify, load_extractor
from limner.metrics import evaluate
from limner.random import bits

#: Held-out digits are so many training pictures, judged against the others.
HELD_OUT = 10_000
METRICS = ("fd", "precision", "recall", "density", "coverage", "originality")


@dataclass(frozen=True)
class Verdict:
    """Scores of one set of digits; ``near_copies`` and ``read`` are shares, ``read`` of digits that read as asked."""

    count: int
    fd: float
    precision: float
    recall: float
    density: float
    coverage: float
    near_copies: float
    read: float


@lru_cache(maxsize=1)
def digits() -> Dataset:
    return open_dataset("mnist", progress=False)


def judge(samples: npt.NDArray[np.uint8], asked: npt.NDArray[np.int64], against: Dataset | None = None) -> Verdict:
    """Judge samples (N, 28, 28, 1) whose digits were ``asked`` (N,) for."""
    scores = _scores(samples, digits() if against is None else against, METRICS)
    read = float((classify(load_extractor("lenet"), samples) == asked).mean())
    return Verdict(len(samples), near_copies=scores.pop("originality"), read=read, **scores)


def distance(samples: npt.NDArray[np.uint8]) -> float:
    """The Fréchet distance alone, which takes a second at most."""
    return _scores(samples, digits(), ("fd",))["fd"]


def _scores(samples: npt.NDArray[np.uint8], against: Dataset, metrics: tuple[str, ...]) -> dict[str, float]:
    cache = cache_root(None) / "measures"
    report = evaluate(samples, against, extractor=load_extractor("lenet"), metrics=metrics, cache=cache)
    return {name: report.value(name) for name in metrics}


@lru_cache(maxsize=1)
def held_out() -> Verdict:
    """What real digits score that the reference does not hold."""
    import torch

    dataset = digits()
    assert dataset.label is not None
    keys = bits(2024, torch.arange(len(dataset)), "held-out digits")[:, 0]
    shuffled = keys.argsort(stable=True).numpy()
    apart, rest = shuffled[:HELD_OUT], np.sort(shuffled[HELD_OUT:])
    return judge(dataset.images[apart], dataset.label[apart], dataset.subset(rest))


if __name__ == "__main__":
    begun = time.monotonic()
    print(json.dumps(asdict(held_out()) | {"seconds": round(time.monotonic() - begun)}))
