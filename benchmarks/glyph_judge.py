"""Trains the judge of glyphs and says how well it reads two typefaces that it never saw.

    python benchmarks/glyph_judge.py --seeds 3 --out reader.safetensors

Prints one JSON line: per seed the seconds of training and the share read right on the held-out typefaces, with
look-alikes (C/c, O/o/0, 1/I/l, …) merged and not, and the confusions that remain.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from pathlib import Path

import torch

from limner.data import glyphs
from limner.metrics.glyph_reader import MERGED, GlyphReader, train_glyph_reader
from pixels import eight_bit


def judge(seed: int) -> tuple[GlyphReader, dict[str, object]]:
    train, held = glyphs.source({}, None), glyphs.source({"split": "heldout"}, None)
    assert train.label is not None
    assert held.label is not None
    start = time.perf_counter()
    reader = train_glyph_reader(eight_bit(train.images), train.label, train.labels, seed=seed)
    seconds = time.perf_counter() - start
    read = reader.read(eight_bit(held.images))
    wrong = reader.merged(read) != reader.merged(held.label)
    pairs = zip(held.label[wrong].tolist(), read[wrong].tolist(), strict=True)
    confusions = Counter(f"{held.labels[a]} as {held.labels[b]}" for a, b in pairs)
    return reader, {
        "seed": seed,
        "train_seconds": round(seconds, 1),
        "merged": round(float(1 - wrong.mean()), 4),
        "exact": round(float((read == held.label).mean()), 4),
        "renderings": [len(train.images), len(held.images)],
        "confusions": dict(confusions.most_common(8)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where the first seed's reader is saved")
    asked = parser.parse_args()
    runs = []
    for seed in range(asked.seeds):
        reader, run = judge(seed)
        runs.append(run)
        if asked.out is not None and seed == 0:
            reader.save(asked.out)
    about = {"merged_groups": MERGED, "threads": torch.get_num_threads(), "torch": torch.__version__}
    median = statistics.median(float(str(run["merged"])) for run in runs)
    print(json.dumps({"median_merged": median, "runs": runs, **about}))


if __name__ == "__main__":
    main()
