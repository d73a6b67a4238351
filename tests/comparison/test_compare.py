"""``limner compare``: the same seeds and classes from each, one table, one page, and only honest stars."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from limner.cli import main
from limner.comparison import Contender, Cost, Line, SideBySide, compare, table, write_page
from limner.data import DataConfig, open_dataset
from limner.errors import UserError
from limner.features.lenet import LeNet
from limner.metrics import Receipt, Score
from limner.recipes import flow, train
from limner.sampling import evaluations, sample
from limner.training.snapshot import load
from pages import Page


def _train(source: Path, out: Path, conditional: bool = True, measures: int = 2) -> Path:
    recipe = flow("tiny")
    settings = replace(
        recipe,
        net=replace(recipe.net, width=8),
        training=replace(recipe.training, batch=16),
        watch=replace(recipe.watch, grids=0, measures=measures, judge=0),
        sampling=replace(recipe.sampling, steps=2, solver="euler"),
        conditional=conditional,
    )
    return train(settings, DataConfig(str(source)), out=out, images=64, show=False).folder


@pytest.fixture(scope="module")
def runs(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with the classes 0 and 1, one with 2, 1, 0 as names of other numbers, one without classes."""
    folder = tmp_path_factory.mktemp("runs")
    with np.load(bars) as archive:
        images, label = archive["images"], archive["labels"]
    tree = folder / "tree"
    for name, number in (("1", 1), ("0", 0), ("extra", 1)):
        (tree / name).mkdir(parents=True)
        for i in np.flatnonzero(label == number)[:24]:
            Image.fromarray(images[i, ..., 0]).save(tree / name / f"{i}.png")
    return {
        "one": _train(bars, folder / "one"),
        "other": _train(tree, folder / "other"),
        "free": _train(bars, folder / "free", conditional=False, measures=0),
        "tree": tree,
    }


@pytest.fixture(scope="module")
def result(runs: dict[str, Path], bars: Path, tmp_path_factory: pytest.TempPathFactory) -> SideBySide:
    sources = [str(runs[name]) for name in ("one", "other", "free", "tree")]
    return compare(sources, str(bars), n=60, seed=5, classes=True, cache=tmp_path_factory.mktemp("cache"))


def test_every_generator_draws_the_same_seeds_for_the_same_classes(result: SideBySide, runs: dict[str, Path]) -> None:
    one, other, free, tree = result.contenders
    assert [c.name for c in result.contenders] == ["one", "other", "free", "tree"]
    assert one.labels == other.labels == ("0", "1") * 30  # "extra" is no class that both know
    assert free.labels == ()
    assert set(tree.labels) == {"0", "1", "extra"}
    for contender, name in ((one, "one"), (other, "other")):
        model = load(runs[name])
        numbers = [model.labels.index(label) for label in contender.labels]
        assert np.array_equal(contender.images, sample(model, 60, label=numbers, seed=5))
    assert np.array_equal(free.images, sample(load(runs["free"]), 60, seed=5))
    assert load(runs["other"]).labels.index("0") == 0


def test_cost_is_what_the_run_wrote_and_what_the_model_is(result: SideBySide, runs: dict[str, Path]) -> None:
    one, *_, tree = result.contenders
    done = json.loads((runs["one"] / "done.json").read_text())
    model = load(runs["one"])
    assert one.cost.images == done["images"] == 64
    assert one.cost.minutes == pytest.approx((done["seconds"]["set-up"] + done["seconds"]["training"]) / 60)
    assert one.cost.parameters == done["parameters"]
    assert one.cost.evaluations == evaluations(model.defaults)
    assert one.cost.per_second is not None
    assert one.cost.per_second > 0
    assert tree.cost == Cost()


def test_all_are_judged_by_the_same_measures(result: SideBySide) -> None:
    names = [line.name for line in result.lines]
    assert names[:2] == ["fd_wavelets_60", "kid_wavelets_60"]
    assert "near_copies_pixels_60" in names
    assert {"class_fd_wavelets_60", "class_coverage_wavelets_60_k5"} <= set(names)
    for line in result.lines:
        if line.name.startswith(
            "class_"
        ):  # the pictures of the tree are of other counts, and stand in lines of their own
            assert [score is None for score in line.scores] in ([False, False, True, True], [True, True, True, False])
        else:
            assert None not in line.scores
        assert all(score.name == line.name for score in line.scores if score is not None)
    assert result.lines[0].real is not None
    assert any("free has no classes" in note for note in result.notes)
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["measures"]["fd_wavelets_60"]["scores"]["one"]["receipt"]["seed"] == 5
    assert plain["contenders"]["tree"]["images"] is None


def test_a_snapshot_is_its_run_and_a_small_set_decides_the_count(
    runs: dict[str, Path], bars: Path, tmp_path: Path
) -> None:
    found = compare(
        [str(runs["one"] / "snapshot"), str(runs["tree"])],
        DataConfig(str(bars)),
        n=500,
        metrics=("fd",),
        cache=tmp_path,
    )
    one, tree = found.contenders
    assert (one.name, one.cost.images, len(one.images), len(tree.images)) == ("one", 64, 72, 72)
    assert any("tree has 72 pictures" in note for note in found.notes)
    assert one.records


def test_extractors_side_by_side_look_for_copies_once(runs: dict[str, Path], bars: Path, tmp_path: Path) -> None:
    found = compare(
        [str(runs["one"]), str(runs["free"])],
        str(bars),
        n=40,
        extractors=("wavelets", "pixels", "wavelets"),
        metrics=("recall", "originality"),
        cache=tmp_path,
    )
    assert [line.name for line in found.lines] == [
        "recall_wavelets_40_k5",
        "near_copies_pixels_40",
        "recall_pixels_40_k5",
    ]


def test_pictures_are_brought_to_what_a_reference_of_another_kind_became(
    runs: dict[str, Path], bars: Path, tmp_path: Path
) -> None:
    shards = tmp_path / "shards.tar"
    with tarfile.open(shards, "w") as archive:
        archive.add(runs["tree"], ".")
    with np.load(bars) as arrays:
        np.savez(tmp_path / "deep.npz", images=arrays["images"].astype(np.uint16) * 257)
    sources = [str(runs["tree"]), str(tmp_path / "deep.npz")]
    found = compare(sources, DataConfig(str(shards), stream="on"), n=30, metrics=("fd",), cache=tmp_path)
    assert [one.images.dtype for one in found.contenders] == [np.uint8, np.uint8]


def test_a_small_reference_is_enough(runs: dict[str, Path], bars: Path, tmp_path: Path) -> None:
    found = compare([str(runs["tree"]), str(bars)], DataConfig(str(bars), limit=45), n=30, cache=tmp_path)
    real = {line.name: line.real is not None for line in found.lines}
    assert real["kid_wavelets_30"]
    assert not real["fd_wavelets_30"]
    assert any("9 held-out pictures are too few for a baseline of fd" in note for note in found.notes)
    write_page(found, tmp_path / "page.html")


_RECEIPT = Receipt("wavelets", "0" * 12, "none", 100, 100, "1" * 64, 0, "95 %")


def _score(metric: str, value: float, half: float) -> Score:
    return Score(metric, f"{metric}_x_100", value, value - half, value + half, _RECEIPT)


@pytest.mark.parametrize(
    ("metric", "values", "half", "best"),
    [
        ("fd", (1, 2, 3), 0.4, 0),
        ("fd", (1, 1.5, 3), 0.4, None),
        ("recall", (0.5, 0.9, 0.6), 0.1, 1),
        ("recall", (0.5, 0.75, 0.6), 0.1, None),
        ("recall", (0.5, None, 0.9), 0.1, 2),
        ("recall", (None, None, 0.9), 0.1, None),
        ("fd", (2, 2, 2), 0.1, None),
    ],
)
def test_a_star_needs_an_interval_apart_from_all_others(
    metric: str, values: tuple[float | None, ...], half: float, best: int | None
) -> None:
    line = Line.of([None if value is None else _score(metric, value, half) for value in values], None)
    assert line.best == best


HOSTILE = "<script>alert('x')</script>&\"[bold]"


@pytest.fixture
def made(bars: Path) -> Callable[[int], SideBySide]:
    """A comparison of so many, without training: their names are hostile, and the first is best at one measure."""

    def make(count: int) -> SideBySide:
        real = open_dataset(str(bars), progress=False)
        images = np.asarray(real.images[:60])
        records = tuple({"images": 10 * i, "loss": 1 / (i + 1)} for i in range(1, 9))
        contenders = tuple(
            Contender(f"{HOSTILE}{i}", "x", images, ("0", "1") * 30, Cost(images=64, minutes=1.5), records)
            for i in range(count)
        )
        lines = (
            Line.of([_score("fd", 1 + i, 0.1) for i in range(count)], _score("fd", 0.5, 0.1)),
            Line.of([_score("recall", 0.5, 0.1) for _ in range(count)], None),
        )
        return SideBySide(contenders, real, lines, (f"{HOSTILE} disagrees",), ("only 60 samples",), 0)

    return make


def test_the_page_is_one_file_with_everything_in_it(
    result: SideBySide, made: Callable[[int], SideBySide], tmp_path: Path
) -> None:
    for i, one in enumerate((result, made(2), made(7))):
        write_page(one, tmp_path / f"{i}.html")
        text = (tmp_path / f"{i}.html").read_text()
        page = Page(text)
        assert all(link.startswith("data:image/png;base64,") for link in page.links)
        assert page.images_without_alt == 0
        assert page.scripts == 1
        assert "http" not in text
        assert HOSTILE not in text
        # A row of pictures a class, a column a contender and one of real pictures.
        rows = 2 if one.contenders[0].labels else 12
        assert len(page.links) == rows * (len(one.contenders) + 1)
    assert text.count('<td class="n best">') == 1
    assert "disagrees" in text
    assert text.count("<svg") == 1
    assert text.count("<polyline") == 7


def test_curves_of_the_runs_are_drawn_together(result: SideBySide, tmp_path: Path) -> None:
    write_page(result, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<figcaption>Loss</figcaption>" in text
    assert "<figcaption>fd_wavelets_500</figcaption>" in text
    assert '<polyline class="s0"' in text
    assert '<polyline class="s1"' in text


def test_the_table_for_a_terminal(result: SideBySide, made: Callable[[int], SideBySide]) -> None:
    text = table(made(3))
    assert text.count("★") == 1
    assert f"{HOSTILE}0" in text
    assert "1 [0.9, 1.1] ★" in text
    told = table(result)
    for words in ("fd_wavelets_60", "evaluations a picture", "parameters", "one", "tree", "–"):
        assert words in told


def test_the_command_writes_a_page_and_never_over_another(
    runs: dict[str, Path], bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ["compare", str(runs["one"]), str(runs["free"]), "--reference", str(bars), "-n", "30", "--out", str(out)]
    main([*args, "--metrics", "fd", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["page"] == str(out / "compare.html")
    assert list(told["measures"]) == ["fd_wavelets_30"]
    (out / "compare.html").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 2
    assert "already exists; choose another --out, or add --overwrite" in capsys.readouterr().err
    assert (out / "compare.html").read_text() == "mine"
    main([*args, "--metrics", "fd", "--overwrite"])
    assert "fd_wavelets_30" in capsys.readouterr().out
    Page((out / "compare.html").read_text())


def test_mistakes_are_told_before_anything_is_drawn(runs: dict[str, Path], bars: Path, tmp_path: Path) -> None:
    one, free = str(runs["one"]), str(runs["free"])
    np.savez(tmp_path / "wide.npz", images=np.zeros((30, 20, 20, 3), np.uint8))
    np.savez(tmp_path / "few.npz", images=np.zeros((5, 13, 11, 1), np.uint8))
    drawn: list[str] = []
    for sources, reference, settings, message in (
        ([one], bars, {}, "two runs at least"),
        ([one, one], bars, {}, "given twice"),
        ([one, free], bars, {"metrics": ("fdd",)}, "did you mean 'fd'"),
        ([one, free], bars, {"metrics": ("inception_score",)}, "names classes"),
        ([one, free], bars, {"extractors": ("wavelet",)}, "did you mean 'wavelets'"),
        ([one, free], bars, {"extractors": ()}, "no extractor"),
        ([one, free], bars, {"n": 3}, "n is 3"),
        ([one, str(tmp_path / "few.npz")], bars, {}, "only 5 pictures"),
        ([one, str(tmp_path / "none")], bars, {}, "none"),
        ([one, "~nobody-of-this-name/run"], bars, {}, "no data at '~nobody-of-this-name/run'"),
        ([one, free], tmp_path / "wide.npz", {}, r"one draws 13x11 L.*20x20.*--reference.size 13 11"),
        ([one, free], tmp_path / "few.npz", {"classes": True}, "no classes to measure within"),
    ):
        with pytest.raises(UserError, match=message) as error:
            compare(sources, str(reference), cache=tmp_path / "cache", tell=drawn.append, **settings)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
    assert drawn == []


def _evaluated(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, Any]:
    main(["evaluate", *map(str, args), "--json"])
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def test_a_reference_is_brought_to_what_a_model_draws_and_this_is_told(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "wide.npz", images=np.random.default_rng(0).integers(0, 256, (60, 20, 20, 3), dtype=np.uint8))
    args = ["--reference", tmp_path / "wide.npz", "--metrics", "fd", "-n", 30]
    notes = _evaluated(capsys, runs["one"], *args)["notes"]
    assert "reference: 60 pictures are fitted to 13 x 11 (height x width) by crop" in notes
    assert "reference: colour pictures become grey" in notes
    assert any("draws each of its classes equally often" in note for note in notes)
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, [runs["one"], *args]), "--reference.size", "20", "20", "--reference.mode", "RGB"])
    assert ended.value.code == 2
    assert "draws 13x11 L, the reference pictures are 20x20 RGB" in capsys.readouterr().err


def test_what_is_judged_is_not_limited_as_the_reference_is(
    runs: dict[str, Path], bars: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = runs["tree"]
    found = _evaluated(capsys, tree, "--reference", bars, "--reference.limit", 40, "--metrics", "fd")
    assert list(found["scores"]) == ["fd_wavelets_72"]
    assert not any("fitted" in note for note in found["notes"])
    smaller = ["--reference.size", 8, 8, "--metrics", "fd"]
    notes = _evaluated(capsys, tree, "--reference", bars, *smaller)["notes"]
    for name, count in ((tree, 72), ("reference", 96)):
        assert f"{name}: {count} pictures are fitted to 8 x 8 (height x width) by crop" in notes
    main(["likelihood", str(runs["free"]), "--reference", str(bars), "--reference.limit", "5", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["n"], told["kind"]) == (5, "lower")
    assert told["receipt"].startswith("lower bound of ln P, estimated")


def test_a_report_outlives_classes_that_cannot_be_measured(
    runs: dict[str, Path], bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(bars) as arrays:
        np.savez(tmp_path / "named.npz", images=arrays["images"], labels=arrays["labels"] + 7)
    found = _evaluated(
        capsys, runs["one"], "--reference", tmp_path / "named.npz", "--metrics", "fd", "-n", 40, "--per-class"
    )
    assert "fd_wavelets_40" in found["scores"]
    assert any(note.startswith("within classes: no class has 20 samples") for note in found["notes"])
    assert "per_class" not in found


def test_too_few_pictures_are_refused_before_anything_is_drawn(
    runs: dict[str, Path], bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = str(runs["one"])
    drawn: list[str] = []
    with pytest.raises(UserError, match="only 10 reference pictures"):
        compare([one, str(runs["free"])], DataConfig(str(bars), limit=10), cache=tmp_path, tell=drawn.append)
    assert drawn == []
    (tmp_path / "file").write_text("in the way")
    for args, message in (
        (["evaluate", one, "--reference", str(bars), "-n", "0"], "n is 0; give a number from 20"),
        (["evaluate", one, "--reference", str(bars), "-n", "19"], "n is 19"),
        (["evaluate", one, "--reference", str(bars), "--reference.limit", "10"], "only 10 reference pictures"),
        (["compare", one, one, "--reference", str(bars), "--out", str(tmp_path / "file" / "x")], "file is a file"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(args)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_samples_have_the_reference_s_proportions_of_classes(
    runs: dict[str, Path], bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(bars) as arrays:
        keep = [i for i, k in enumerate(arrays["labels"]) if k == 0 or i % 8 == 1]  # 48 of one class, 12 of the other
        np.savez(tmp_path / "uneven.npz", images=arrays["images"][keep], labels=arrays["labels"][keep])
    uneven = str(tmp_path / "uneven.npz")
    found = compare([str(runs["one"]), str(runs["other"])], uneven, n=50, metrics=("fd",), cache=tmp_path)
    assert all(contender.labels.count("1") == 10 for contender in found.contenders)
    assert found.contenders[0].labels == found.contenders[1].labels
    values = _evaluated(capsys, runs["one"], "--reference", uneven, "--metrics", "fd", "-n", 100, "--per-class")
    counts = {name: scores["fd"]["receipt"]["n"] for name, scores in values["per_class"]["classes"].items()}
    assert counts == {"0": 80}  # 12 real pictures of the other class are too few
    assert any("not among" in note or "left out: 1" in note for note in values["per_class"]["notes"])


def test_other_weights_of_one_extractor_have_another_name(runs: dict[str, Path], bars: Path, tmp_path: Path) -> None:
    for name in "abc":
        torch.manual_seed(ord("a") if name == "c" else ord(name))
        save_file(LeNet().state_dict(), tmp_path / f"{name}.safetensors")
    files = [f"lenet={tmp_path / name}.safetensors" for name in "abc"]
    found = compare(
        [str(runs["tree"]), str(bars)], str(bars), n=40, metrics=("fd",), extractors=files, cache=tmp_path / "cache"
    )
    one, other = (line.name for line in found.lines)
    assert one.startswith("fd_lenet-")
    assert one != other
    assert list(found.to_dict()["measures"]) == [one, other]
    for line, file in zip((one, other), files, strict=False):
        assert f"{line.removeprefix('fd_').removesuffix('_40')} is {file}" in found.notes


SAME = "the same random numbers"


def test_the_page_claims_the_same_numbers_and_rows_of_classes_only_where_it_is_so(
    result: SideBySide, made: Callable[[int], SideBySide], tmp_path: Path
) -> None:
    def told(one: SideBySide) -> str:
        write_page(one, tmp_path / "page.html")
        return (tmp_path / "page.html").read_text()

    one, other, _, tree = result.contenders
    assert told(replace(result, contenders=(one, other, tree))).count(SAME) == 2
    assert told(result).count(SAME) == 1  # who has no classes draws its pictures in another order
    assert SAME not in told(replace(result, contenders=(one, tree)))
    assert SAME not in told(made(2))  # sets of pictures
    assert SAME not in told(replace(result, contenders=(one, replace(other, draws="codes"))))
    apart = replace(other, labels=("x", "y") * 30)
    text = told(replace(result, contenders=(one, apart)))
    assert "Consecutive numbers" in text
    assert text.count(SAME) == 2


def test_density_has_no_star() -> None:
    assert Line.of([_score("density", value, 0.01) for value in (0.9, 1.4)], None).best is None
