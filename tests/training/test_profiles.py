"""Averages chosen afterwards, against profiles that can be integrated and averages that were really kept."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import limner
from limner.cli import main
from limner.distributed import ALONE
from limner.errors import UserError
from limner.recipes import RefineRecipe, recipe, resume, train
from limner.tensors import load_tensors
from limner.training.averaging import write_average
from limner.training.checkpoint import checkpoints
from limner.training.config import TrainingConfig
from limner.training.ema import EMA
from limner.training.profiles import Profile, exponent, power_decay, put_aside, reconstructed, weights

STEPS, COPIES = 2048, 32
KEPT = (0.05, 0.1)


def test_exponents_of_the_paper() -> None:
    """EDM2, section 3.1: widths of 5 and 10 per cent are gamma of 16.97 and 6.94."""
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)


@given(st.floats(0.005, 0.28))
def test_a_width_is_the_deviation_of_its_profile(width: float) -> None:
    gamma = exponent(width)
    first, second = (gamma + 1) / (gamma + 2), (gamma + 1) / (gamma + 3)  # moments of p on [0, 1]
    assert math.sqrt(second - first**2) == pytest.approx(width, rel=1e-6)


@given(st.floats(0.02, 0.28), st.floats(0.02, 0.28), st.floats(0.1, 1.0), st.floats(0.1, 1.0))
def test_products_are_integrals(a: float, b: float, s: float, t: float) -> None:
    both = min(s, t)  # beyond, one of them is 0
    tau = (np.arange(200_000) + 0.5) / 200_000 * both

    def p(width: float, time: float) -> np.ndarray:
        gamma = exponent(width)
        return (gamma + 1) / time * (tau / time) ** gamma

    integral = float((p(a, s) * p(b, t)).mean() * both)
    assert Profile(s, exponent(a)) @ Profile(t, exponent(b)) == pytest.approx(integral, rel=1e-5, abs=1e-9)


def functions(step: int) -> Tensor:
    """Weights that are known functions of time: what trainings look like, smooth and not."""
    t = step / STEPS
    noise = math.sin(1e4 * math.sin(step))  # jumps from step to step
    return torch.tensor([1.0, t, t**2, math.exp(-5 * t), math.cos(20 * t), 1 / (1 + 40 * t), 0.1 * noise])


class Known(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Module()
        self.net.weight = nn.Parameter(functions(0))


def kept(folder: Path, direct: tuple[float, ...]) -> dict[float, Tensor]:
    """Copies of two averages put aside in the folder; and averages of other widths that were kept all the way."""
    root = Known()
    averages = {width: EMA(root, ("net",)) for width in (*KEPT, *direct)}
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            root.net.weight.copy_(functions(step))
        for width, average in averages.items():
            average.update(power_decay(step, exponent(width)), torch.tensor(True))
        if step % (STEPS // COPIES) == 0:
            put_aside(folder, {width: averages[width] for width in KEPT}, 10 * step, step, ALONE)
    return {width: averages[width].modules["net"].weight.detach() for width in direct}


def test_an_average_is_the_integral_over_its_profile(tmp_path: Path) -> None:
    """Of powers of time, which can be integrated: the mean of tau^k is (gamma + 1) / (gamma + 1 + k)."""
    for width, average in kept(tmp_path, (0.03, 0.2)).items():
        gamma = exponent(width)
        for k in (0, 1, 2):
            assert float(average[k]) == pytest.approx((gamma + 1) / (gamma + 1 + k), abs=3 / STEPS)


def test_what_is_put_together_is_what_was_kept_all_the_way(tmp_path: Path) -> None:
    """The error is at most that of the profile times the weights' norm (Cauchy and Schwarz), plus what half precision
    and whole steps cost; for what is smooth it is far below."""
    direct = (0.04, 0.06, 0.075, 0.12, 0.15, 0.2, 0.25)
    references = kept(tmp_path, direct)
    values = torch.stack([functions(step) for step in range(1, STEPS + 1)])
    norms = values.square().mean(dim=0).sqrt()
    for width in direct:
        made = reconstructed(tmp_path, width, {"weight"})
        assert made.copies == 2 * COPIES
        wanted = Profile(STEPS, exponent(width))
        known = [Profile((i + 1) * STEPS // COPIES, exponent(one)) for i in range(COPIES) for one in KEPT]
        factors, error = weights(known, wanted)
        assert error == made.error
        rounding = 2**-12 * sum(map(abs, factors))
        bound = error * math.sqrt(STEPS * (wanted @ wanted)) * norms + rounding + 2e-3
        apart = (made.parameters["weight"] - references[width]).abs()
        assert bool((apart <= bound).all()), (width, apart, bound)
        assert sum(factors) == pytest.approx(1, abs=1e-9)  # what stands still is met
        assert error < 0.05
        assert float(apart.max()) < 4e-3, (width, apart)


def test_a_kept_width_needs_no_other(tmp_path: Path) -> None:
    references = kept(tmp_path, KEPT)
    for width in KEPT:
        made = reconstructed(tmp_path, width, {"weight"})
        assert made.error < 1e-5
        torch.testing.assert_close(made.parameters["weight"], references[width], rtol=0, atol=1e-3)


def tiny(**training: object) -> RefineRecipe:
    plain = recipe("flow", "tiny")
    return replace(
        plain,
        net=replace(plain.net, width=8),
        training=replace(plain.training, batch=8, precision="float32", **training),  # type: ignore[arg-type]
        sampling=replace(plain.sampling, steps=2),
        watch=replace(plain.watch, grids=0, judge=0),
    )


@pytest.fixture(scope="module")
def run(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("profiles") / "run"
    settings = tiny(ema_profiles=KEPT, ema_copies=8, checkpoint_seconds=0.0, keep=100)
    train(settings, str(bars), out=out, images=320, show=False)
    return out


def test_a_run_keeps_copies_and_makes_any_width(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [int(path.stem) for path in sorted((run / "ema").iterdir())] == [40 * i for i in range(1, 9)]
    main(["ema", str(run), "--width", "0.08", "--out", str(tmp_path / "made"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["copies"] == 16
    assert told["error"] < 0.05
    pictures = limner.sample(limner.load(tmp_path / "made"), 4)
    assert pictures.shape == (4, 13, 11, 1)
    last = load_tensors(checkpoints(run / "checkpoints")[-1])[0]
    made = load_tensors(tmp_path / "made" / "model.safetensors")[0]
    for name, value in made.items():  # between the two that were kept
        low, high = last[f"profile0.denoiser.{name}"], last[f"profile1.denoiser.{name}"]
        torch.testing.assert_close(value, (low + high) / 2, rtol=0, atol=0.02 + float((high - low).abs().max()))
    assert "width 0.08" in (tmp_path / "made" / "card.md").read_text()


def test_averages_are_resumed_bit_for_bit(run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "run"
    shutil.copytree(run, broken)
    for path in checkpoints(broken / "checkpoints")[17:]:
        path.unlink()
    for path in sorted((broken / "ema").iterdir())[3:]:
        path.unlink()
    (broken / "done.json").unlink()
    resume(broken, show=False)
    for path in (run / "ema").iterdir():
        assert path.read_bytes() == (broken / "ema" / path.name).read_bytes()


def test_nothing_is_kept_unasked(bars: Path, tmp_path: Path) -> None:
    train(tiny(), str(bars), out=tmp_path / "run", images=16, show=False)
    assert not (tmp_path / "run" / "ema").exists()
    names = load_tensors(checkpoints(tmp_path / "run" / "checkpoints")[-1])[0]
    assert {name.split(".")[0] for name in names} == {"objective", "ema", "optimizer"}
    with pytest.raises(UserError, match=r"holds no averages; train with --training.ema-profiles"):
        write_average(tmp_path / "run", 0.1, tmp_path / "made")


@pytest.mark.parametrize(
    ("act", "line"),
    [
        (lambda run, out: write_average(run, 0.4, out), "the width of an average is 0.4; give a number from"),
        (lambda run, out: write_average(run, 0.005, out), "cannot be made of what .* holds"),
        (lambda run, out: write_average(run, 0.1, run), "already exists"),
        (lambda run, out: write_average(out, 0.1, out), "is no finished run"),
        (lambda run, out: TrainingConfig(ema_profiles=(0.5,)), "training.ema-profiles is 0.5"),
        (lambda run, out: TrainingConfig(ema_profiles=(0.1, 0.1)), "all different"),
    ],
)
def test_mistakes(run: Path, tmp_path: Path, act: Callable[[Path, Path], object], line: str) -> None:
    with pytest.raises(UserError, match=line):
        act(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()
