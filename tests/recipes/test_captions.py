"""``dalle`` as a user meets it: pictures that say what is in them, and pictures for what is said."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_every_recipe import BATCH, small

import limner
from limner.cli import main
from limner.contracts import Model
from limner.data import DataConfig, Dataset
from limner.distributed import ALONE
from limner.errors import UserError
from limner.recipes import CaptionedRecipe, recipe, resume, train
from limner.sampling import complete, condition_for, log_likelihood
from limner.text import TextConfig
from limner.training.averaging import write_average
from limner.training.captions import reading_of
from limner.training.checkpoint import checkpoints
from limner.training.opening import batches_of, before_it

LIES, STANDS = "a bar that lies at 4", "a bar that stands at 4"


def settings() -> CaptionedRecipe:
    chosen = small("dalle")
    assert isinstance(chosen, CaptionedRecipe)
    return chosen


@pytest.fixture(scope="module")
def run(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("captions") / "run"
    train(settings(), str(bars.with_name("captioned")), out=out, images=4 * BATCH, show=False)
    return out


@pytest.fixture
def model(run: Path) -> Model:
    return limner.load(run)


@pytest.fixture
def pictures(bars: Path) -> Dataset:
    return limner.open_dataset(str(bars.with_name("captioned")), progress=False)


def strange(model: Model) -> Model:
    """With weights that let a text be heard, which after a few steps of training is hardly so."""
    torch.manual_seed(0)
    for part in model.net.parameters():
        part.data += 0.3 * torch.randn_like(part)
    return model


def test_a_training_sees_the_captions_of_its_pictures(pictures: Dataset) -> None:
    chosen = settings()
    reading = reading_of(chosen, pictures, ALONE, show=False)
    assert reading is not None
    assert pictures.captions is not None
    assert reading.prompts == tuple(dict.fromkeys(pictures.captions))
    before = before_it(chosen.codec_source(), chosen, pictures, ALONE, show=False)
    batches = batches_of(chosen, pictures, ALONE, labelled=False, behind=before, reading=reading)
    _, which = pictures.batch(chosen.seed, 7, 5)
    seen = batches(7, 5)
    assert seen.cond.label is None
    assert seen.cond.text is not None
    assert seen.cond.text.shape == (5, 7)  # as many as the longest caption has
    assert [reading.tokenizer.decode(row) for row in seen.cond.text] == [pictures.captions[row] for row in which]


def test_a_prompt_is_drawn_by_seed_and_number(model: Model) -> None:
    drawn = strange(model)
    whole = limner.sample(drawn, 5, prompt=LIES, seed=3)
    assert np.array_equal(limner.sample(drawn, 5, prompt=[LIES] * 5, seed=3, batch=2), whole)
    assert np.array_equal(limner.sample(drawn, 2, first=3, prompt=LIES.upper(), seed=3), whole[3:])
    mixed = limner.sample(drawn, 5, prompt=[LIES, LIES, STANDS, LIES, LIES], seed=3)
    assert np.array_equal(mixed[[0, 1, 3, 4]], whole[[0, 1, 3, 4]])
    assert not np.array_equal(limner.sample(drawn, 5, prompt=STANDS, seed=3), whole)
    assert not np.array_equal(limner.sample(drawn, 5, prompt=LIES, seed=3, guidance=100.0), whole)
    free = limner.sample(drawn, 5, prompt=LIES, seed=3, guidance=0.0)
    assert np.array_equal(limner.sample(drawn, 5, prompt=STANDS, seed=3, guidance=0.0), free)


def test_without_a_prompt_those_of_the_training_are_drawn_in_turn(model: Model, pictures: Dataset) -> None:
    assert pictures.captions is not None
    assert model.labels == ()
    assert len(model.prompts) == len(set(pictures.captions))
    assert set(model.prompts) == set(pictures.captions)
    two = replace(strange(model), prompts=(LIES, STANDS))
    assert np.array_equal(limner.sample(two, 3, first=1), limner.sample(two, 3, first=1, prompt=[STANDS, LIES, STANDS]))
    cond = condition_for(replace(model, prompts=()), 2, None, None)
    assert cond.text is not None
    assert (cond.text == -1).all()


def test_a_snapshot_reads_by_itself(run: Path, model: Model, tmp_path: Path) -> None:
    assert (run / "tokenizer.json").read_bytes() == (run / "snapshot/tokenizer.json").read_bytes()
    alone = tmp_path / "alone"
    shutil.copytree(run / "snapshot", alone)
    again = limner.load(alone)
    assert again.prompts == model.prompts
    assert np.array_equal(limner.sample(again, 3, prompt=STANDS), limner.sample(model, 3, prompt=STANDS))
    assert "prompt=" in (alone / "card.md").read_text()
    assert model.prompts[0] in (run / "report.html").read_text()
    other = json.loads((alone / "tokenizer.json").read_text())
    merged = other["model"]["merges"].pop()
    other["model"]["vocab"].pop("".join(merged))
    (alone / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="does not fit the model: it has 279 tokens, the model knows 280"):
        limner.load(alone)
    (alone / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer.json is damaged"):
        limner.load(alone)
    (alone / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer.json is missing"):
        limner.load(alone)


def test_a_run_goes_on_by_its_own_tokens(run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "run"
    shutil.copytree(run, broken)
    shutil.rmtree(broken / "snapshot")
    (broken / "done.json").unlink()
    for path in checkpoints(broken / "checkpoints")[2:]:
        path.unlink()
    (broken / "tokenizer.json").rename(tmp_path / "aside")
    with pytest.raises(UserError, match=r"tokenizer.json is missing"):
        resume(broken, show=False)
    (tmp_path / "aside").rename(broken / "tokenizer.json")
    resume(broken, show=False)
    for part in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (broken / "snapshot" / part).read_bytes() == (run / "snapshot" / part).read_bytes()


def test_another_average_of_the_weights_reads_too(bars: Path, tmp_path: Path) -> None:
    chosen, run = settings(), tmp_path / "run"
    chosen = replace(
        chosen,
        training=replace(chosen.training, ema_profiles=(0.05, 0.1), checkpoint_seconds=60.0),
        watch=replace(chosen.watch, grids=0, judge=0),
    )
    train(chosen, str(bars.with_name("captioned")), out=run, images=20 * BATCH, show=False)
    write_average(run, 0.1, tmp_path / "wide")
    wide = limner.load(tmp_path / "wide")
    assert wide.prompts == limner.load(run).prompts
    assert limner.sample(wide, 2, prompt=LIES).shape == (2, 13, 11, 1)


def test_captions_of_a_stream_are_missed(pictures: Dataset, bars: Path, tmp_path: Path) -> None:
    assert pictures.captions is not None
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for i, (file, text) in enumerate(
            zip(sorted(bars.with_name("captioned").rglob("*.png")), pictures.captions, strict=True)
        ):
            (tmp_path / "text").write_text(text)
            archive.add(file, f"{i:04d}.png")
            archive.add(tmp_path / "text", f"{i:04d}.txt")
    source = DataConfig(str(tmp_path / "shard.tar"), stream="on")
    with pytest.raises(UserError, match=r"left out because it is decoded as it goes: give --data\.stream off"):
        train(settings(), source, out=tmp_path / "run", images=BATCH, show=False)
    train(settings(), replace(source, stream="off"), out=tmp_path / "run", images=BATCH, show=False)


def test_likelihoods_are_given_the_captions_where_there_are_some(model: Model, pictures: Dataset) -> None:
    assert pictures.captions is not None
    drawn, given, captions = strange(model), pictures.images[:6], pictures.captions[:6]
    told = log_likelihood(drawn, given, captions=captions, batch=4)
    assert told.how.endswith("given the pictures' captions")
    free = log_likelihood(drawn, given)
    assert free.how.endswith("given no text")
    assert torch.equal(log_likelihood(drawn, given, captions=[""] * 6).nats, free.nats)
    assert float((told.nats - free.nats).abs().min()) > 0
    with pytest.raises(UserError, match="5 captions for 6 pictures"):
        log_likelihood(drawn, given, captions=captions[:5])
    with pytest.raises(UserError, match="always told a text"):
        log_likelihood(replace(drawn, unconditional=False), given)
    with pytest.raises(UserError, match="always told the text"):
        limner.sample(replace(drawn, unconditional=False), 2, guidance=2.0)


def test_pictures_are_completed_as_a_text_says(model: Model, pictures: Dataset) -> None:
    drawn, given, mask = strange(model), pictures.images[:3], np.zeros((13, 11), bool)
    mask[7:] = True
    found = complete(drawn, given, mask, ways=2, prompt=STANDS)
    alone = complete(drawn, given.repeat(2, axis=0), mask, prompt=[STANDS] * 6)
    assert np.array_equal(alone.pictures[:, 0], found.pictures.reshape(6, 13, 11, 1))
    assert not np.array_equal(complete(drawn, given, mask, ways=2, prompt=LIES).pictures, found.pictures)
    whole = complete(drawn, given, np.ones((13, 11), bool), prompt=LIES, seed=2)
    assert np.array_equal(whole.pictures[:, 0], limner.sample(drawn, 3, prompt=LIES, seed=2))


def test_the_command_line(run: Path, bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, source = str(tmp_path / "drawn"), str(bars.with_name("captioned"))
    main(["sample", str(run), "-n", "3", "--prompt", LIES, "--guidance", "2", "--out", out, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["prompts"] == [LIES]
    assert told["labels"] == []
    assert len(list(Path(out).glob("*.png"))) == 3
    main(["sample", str(run), "-n", "2", "--prompt", "red " * 20, "--out", str(tmp_path / "grid.png")])
    assert "hears the first 7 tokens of the prompt" in capsys.readouterr().out
    main(["likelihood", str(run), "--reference", source, "-n", "8"])
    assert "given the pictures' captions" in capsys.readouterr().out
    main(["likelihood", str(run), "--reference", str(bars), "-n", "8"])
    assert "given no text" in capsys.readouterr().out
    for more in ([], ["--prompt", LIES]):
        main(["complete", str(run), "--reference", source, "-n", "2", "--ways", "1", *more, "--overwrite",
              "--out", str(tmp_path / "completed.png")])  # fmt: skip
    main(["evaluate", str(run), "--reference", source, "-n", "40", "--metrics", "fd"])
    assert "captions of its training say, in turn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--prompt", " "], "the prompt is empty"),
        (["--label", "1"], "knows no classes: give --prompt instead of --label"),
        (["--steps", "3"], "steps is not for this model"),
    ],
)
def test_a_mistaken_draw_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sample", str(run), *args, "--out", str(tmp_path / "new.png")])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_mistaken_prompts_are_one_line(model: Model) -> None:
    for prompt, says in (
        (["a"], "1 prompts for 2 samples"),
        (["a", ""], "the prompt is empty"),
        ([], "0 prompts for 2"),
    ):
        with pytest.raises(UserError, match=says):
            limner.sample(model, 2, prompt=prompt)


def test_pictures_without_captions_are_refused(bars: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bars.npz has none: put a metadata.jsonl with lines such as") as said:
        train(settings(), str(bars), out=tmp_path / "run", images=BATCH, show=False)
    assert "\n" not in str(said.value)
    mistaken = replace(recipe("vqgpt", "tiny"), codec=settings().codec, net=settings().net)
    with pytest.raises(UserError, match=r"vqgpt reads no texts, and --net\.kind dalle does"):
        train(mistaken, str(bars), out=tmp_path / "run", images=BATCH, show=False)
    assert not (tmp_path / "run").exists()


def test_what_is_cut_of_captions_is_said_once(bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = replace(settings(), net=replace(settings().net, text=TextConfig(vocabulary=257, length=3)))
    train(short, str(bars.with_name("captioned")), out=tmp_path / "run", images=2 * BATCH)
    said = capsys.readouterr().err
    assert said.count("96 of 96 captions have more than 3 tokens: what lies beyond is cut") == 1
    model = limner.load(tmp_path / "run")
    assert model.text is not None
    assert (model.text.vocabulary, model.text.length) == (257, 3)


def test_some_pictures_may_lack_a_caption(bars: Path, tmp_path: Path) -> None:
    """They are pictures of any text."""
    some = tmp_path / "some"
    shutil.copytree(bars.with_name("captioned"), some)
    lines = (some / "metadata.jsonl").read_text().splitlines()
    (some / "metadata.jsonl").write_text("\n".join(lines[:50]))
    chosen, pictures = settings(), limner.open_dataset(str(some), progress=False)
    reading = reading_of(chosen, pictures, ALONE, show=False)
    assert pictures.captions is not None
    assert reading is not None
    batches = batches_of(chosen, pictures, ALONE, labelled=False, reading=reading)
    _, which = pictures.batch(chosen.seed, 0, 20)
    text = batches(0, 20).cond.text
    assert text is not None
    assert (text >= 0).any(1).tolist() == [bool(pictures.captions[row]) for row in which]
