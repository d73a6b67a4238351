"""Do the measures point the right way? Real pictures are spoilt in known ways, at three strengths each.

    python benchmarks/orientation.py [--sets mnist cifar10 ...] [-n 1000] [--out FILE.md]

A Fréchet distance must rise with blur, noise, dropped classes and duplicates; precision must fall with noise, recall
with dropped classes, coverage with blur; the share of near copies must rise with planted copies. What fails is
printed as it is. "pixels" is there to show why the raw picture is no feature space for these measures.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from limner.data import open_dataset
from limner.features import Extractor, load_extractor
from limner.metrics import evaluate
from limner.metrics.choice import choose
from limner.random import normal
from pixels import eight_bit

Images = npt.NDArray[np.uint8]

#: set: the extractors that can judge it. squeezenet is slow on a CPU: 227² pixels a picture.
SETS: dict[str, tuple[str, ...]] = {
    "mnist": ("wavelets", "pixels", "lenet"),
    "fashion-mnist": ("wavelets", "pixels"),
    "cifar10": ("wavelets", "pixels", "resnet-cifar"),
    "builtin:glyphs": ("wavelets", "pixels"),
    "emoji": ("wavelets", "pixels"),
    "flowers": ("wavelets", "pixels", "squeezenet"),
}
#: "pixels" has no Fréchet distance here: thousands of dimensions ask for more samples than are drawn.
_METRICS = ("fd", "kid", "precision", "recall", "coverage", "originality")
_WITHOUT_FRECHET = _METRICS[2:]


@dataclass(frozen=True)
class Check:
    """A measure, the fault that it must answer to, and the way it must go."""

    metric: str
    fault: str
    rises: bool

    def passes(self, values: Sequence[float]) -> bool:
        """From unspoilt to the strongest fault: never the wrong way, and the right way over all."""
        steps = [b - a if self.rises else a - b for a, b in itertools.pairwise(values)]
        return all(step >= 0 for step in steps) and sum(steps) > 0


CHECKS = (
    Check("fd", "blur", True),
    Check("fd", "noise", True),
    Check("fd", "dropped classes", True),
    Check("fd", "duplicates", True),
    Check("precision", "noise", False),
    Check("recall", "dropped classes", False),
    Check("coverage", "blur", False),
    Check("originality", "copies", True),
)


@dataclass(frozen=True)
class Pool:
    """Real pictures in a keyed order: ``clean`` are judged, ``spare`` replace those of dropped classes."""

    reference: Images
    clean: Images
    spare: Images
    spare_label: npt.NDArray[np.int64] | None

    @staticmethod
    def of(name: str, n: int) -> Pool:
        data = open_dataset(name)
        images = eight_bit(data.images)
        order = np.random.Generator(np.random.Philox(key=0)).permutation(len(images))
        n = min(n, len(order) // 4)
        half = n + (len(order) - n) // 3
        spare = order[half:]
        label = None if data.label is None else np.asarray(data.label)[spare]
        reference = order[n : min(half, n + 10_000)]
        return Pool(images[reference], images[order[:n]], images[spare], label)


def blurred(pool: Pool, strength: int) -> Images:
    """Gaussian blur of 1/64, 1/32 and 1/16 of the side."""
    x = torch.from_numpy(pool.clean.copy()).permute(0, 3, 1, 2).float()
    sigma = max(x.shape[2:]) / 64 * 2**strength
    reach = int(np.ceil(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = F.conv2d(F.conv2d(x, kernel, groups=x.shape[1]), kernel.transpose(2, 3), groups=x.shape[1])
    return _as_uint8(x)


def noisy(pool: Pool, strength: int) -> Images:
    """Gaussian noise of 5, 10 and 20 % of the range."""
    x = torch.from_numpy(pool.clean.copy()).permute(0, 3, 1, 2).float()
    noise = normal(0, torch.arange(len(x)), "benchmark/noise", shape=tuple(x.shape[1:]))
    return _as_uint8(x + noise * 255 * 0.05 * 2**strength)


def dropped(pool: Pool, strength: int) -> Images | None:
    """As many pictures of 80, 50 and 20 % of the classes alone; None where there are no classes or too few of them."""
    if pool.spare_label is None:
        return None
    kinds = np.unique(pool.spare_label)
    kept = np.random.Generator(np.random.Philox(key=1)).permutation(kinds)[
        : int(len(kinds) * (0.8, 0.5, 0.2)[strength])
    ]
    found = np.isin(pool.spare_label, kept).nonzero()[0][: len(pool.clean)]
    return pool.spare[found] if len(found) == len(pool.clean) else None


def duplicated(pool: Pool, strength: int) -> Images:
    """4, 16 and 64 times the same pictures."""
    unique = max(1, len(pool.clean) // 4 ** (strength + 1))
    again: npt.NDArray[np.uint8] = pool.clean[np.arange(len(pool.clean)) % unique]
    return again


def copied(pool: Pool, strength: int) -> Images:
    """5, 20 and 50 % slightly noisy copies of reference pictures, every other one mirrored."""
    count = int(len(pool.clean) * (0.05, 0.2, 0.5)[strength])
    source = pool.reference[choose(len(pool.reference), count, 0, "benchmark/copies").numpy()].copy()
    source[::2] = source[::2, :, ::-1]
    slightly = np.random.Generator(np.random.Philox(key=2)).integers(-5, 6, source.shape)
    copies = np.clip(source.astype(np.int64) + slightly, 0, 255).astype(np.uint8)
    return np.concatenate([copies, pool.clean[count:]])


FAULTS: dict[str, Callable[[Pool, int], Images | None]] = {
    "blur": blurred,
    "noise": noisy,
    "dropped classes": dropped,
    "duplicates": duplicated,
    "copies": copied,
}


def _as_uint8(x: torch.Tensor) -> Images:
    out: npt.NDArray[np.uint8] = x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return out


def judge(pool: Pool, extractor: Extractor, cache: Path) -> dict[tuple[str, str], list[float]]:
    """Values by (metric, fault): of the unspoilt pictures and of the three strengths."""
    metrics = _METRICS if extractor.name != "pixels" else _WITHOUT_FRECHET
    clean = evaluate(pool.clean, pool.reference, extractor=extractor, metrics=metrics, cache=cache)
    values: dict[tuple[str, str], list[float]] = {}
    for fault, spoil in FAULTS.items():
        asked = [metric for metric in metrics if (metric == "originality") == (fault == "copies")]
        spoilt = [spoil(pool, strength) for strength in range(3)]
        reports = [
            evaluate(images, pool.reference, extractor=extractor, metrics=asked, cache=cache)
            for images in spoilt
            if images is not None
        ]
        if len(reports) == len(spoilt):
            values |= {(m, fault): [clean.value(m), *(report.value(m) for report in reports)] for m in asked}
    return values


def table(name: str, extractor: Extractor, n: int, values: dict[tuple[str, str], list[float]]) -> list[str]:
    """Markdown lines, one a check that can be made."""
    lines = []
    for check in CHECKS:
        found = values.get((check.metric, check.fault))
        if found is None:
            continue
        numbers = " → ".join(f"{value:.3g}" for value in found)
        way = "rises" if check.rises else "falls"
        verdict = "yes" if check.passes(found) else "**no**"
        metric = "near copies" if check.metric == "originality" else check.metric
        lines.append(f"| {name} | {extractor.name} | {n} | {metric} {way} with {check.fault} | {numbers} | {verdict} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", default=list(SETS), help="catalogue names")
    parser.add_argument("--extractors", nargs="*", help="instead of those fit for each set")
    parser.add_argument("-n", type=int, default=1000, help="pictures judged")
    parser.add_argument("--out", type=Path, help="write the table here too")
    args = parser.parse_args()
    lines = [
        "| set | extractor | n | check | unspoilt → strengths 1, 2, 3 | right |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name in args.sets:
            pool = Pool.of(name, args.n)
            height, width, channels = pool.clean.shape[1:]
            for wanted in args.extractors or SETS.get(name, ("wavelets",)):
                extractor = load_extractor(wanted, shape=(height, width, channels))
                lines += table(name, extractor, len(pool.clean), judge(pool, extractor, Path(folder)))
                print(f"{name}: {wanted} done", file=sys.stderr)
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
