"""Do 95 % intervals hold 95 times in a hundred? Real digits over LeNet features, drawn again and again.

    LIMNER_MIRROR=DIR python benchmarks/intervals.py [-n 1000] [--trials 200] [--out FILE.md]

Of each draw of n digits every measure gives a score and an interval; the truth is the mean score of all draws, which
is what scores of this count are about, bias included. The reference is held fixed, as it is when runs are compared.
"worse" draws have a tenth of their digits replaced by noisy ones, so that no measure stands at its best value.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.data import open_dataset
from limner.features import Extractor, extract, load_extractor
from limner.metrics import METRICS, Moments, Score
from limner.metrics.choice import choose, partition
from limner.metrics.intervals import GROUPS
from limner.metrics.sides import Comparison, Side
from limner.metrics.store import Store

MEASURED = ("fd", "kid", "precision", "recall", "density", "coverage", "inception_score")
_REFERENCE = 10_000


def scores(extractor: Extractor, features: Tensor, reference: Side, seed: int) -> dict[str, Score]:
    """Every measure of one draw."""
    assert extractor.head is not None
    groups = partition(len(features), GROUPS, seed, "groups")
    with torch.inference_mode():
        logits = extractor.head(features)
    blocks = tuple(Moments.of(features[groups == group]) for group in range(GROUPS))
    fake = Side(len(features), features, blocks, logits)
    compared = Comparison(extractor, extractor, fake, reference, "0" * 64, seed, Store(None))
    return {name: METRICS[name].score(compared) for name in MEASURED}


def rows(name: str, found: Sequence[dict[str, Score]]) -> list[str]:
    """A line a measure: its mean, how draws spread, half of the mean interval, and how many intervals held."""
    lines = []
    for metric in MEASURED:
        drawn = [one[metric] for one in found]
        values = np.array([score.value for score in drawn])
        truth = values.mean()
        held = np.mean([score.low <= truth <= score.high for score in drawn])
        half = np.mean([(score.high - score.low) / 2 for score in drawn])
        unsure = 1.96 * math.sqrt(0.95 * 0.05 / len(drawn))
        lines.append(
            f"| {name} | {metric} | {truth:.4g} | {1.96 * values.std(ddof=1):.2g} | {half:.2g} | "
            f"{held:.1%} ± {unsure:.1%} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=1000, help="digits in a draw")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--out", type=Path, help="write the table here too")
    args = parser.parse_args()
    digits = open_dataset("mnist", progress=False).images
    extractor = load_extractor("lenet")
    rng = np.random.Generator(np.random.Philox(key=0))
    spoilt = digits[_REFERENCE : _REFERENCE + 5000] + rng.normal(0, 60, (5000, *digits.shape[1:]))
    clean = torch.from_numpy(extract(extractor, digits))
    noisy = torch.from_numpy(extract(extractor, spoilt.clip(0, 255).astype(np.uint8)))
    known = clean[:_REFERENCE]
    reference = Side(_REFERENCE, known, (Moments.of(known),))
    pool = clean[_REFERENCE + 5000 :]
    sound, worse = [], []
    for seed in range(args.trials):
        drawn = pool[choose(len(pool), args.n, seed, "benchmark/draws")]
        sound.append(scores(extractor, drawn, reference, seed))
        bad = noisy[choose(len(noisy), args.n // 10, seed, "benchmark/noisy")]
        worse.append(scores(extractor, torch.cat([drawn[len(bad) :], bad]), reference, seed))
    text = "\n".join(
        [
            "| draws | measure | mean | 1.96 × spread of the draws | half of the mean interval | intervals that hold |",
            "|---|---|---|---|---|---|",
            *rows("sound", sound),
            *rows("worse", worse),
        ]
    )
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
