"""What is kept of pictures while they are written, and how many are written together."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import limner
from limner.cli import main
from limner.codecs import Identity
from limner.contracts import Autoregressor, Condition, ExtendConfig, ImageSpec, Model
from limner.distributed import ALONE
from limner.models import AutoregressorNetConfig, GPTConfig, PixelCNNConfig, PixelCNNPPConfig, VARConfig
from limner.sampling.draw import together
from limner.sampling.extending import Guided
from limner.sampling.keeping import GIB, Kept, fitting, kept_by, tensors_of
from limner.training.snapshot import AutoregressorConfig, load, save_snapshot

PICTURE = ImageSpec(3, (5, 6), "RGB")
TOKENS = ImageSpec(1, (4, 4), "tokens", codes=20)
SCALES = replace(TOKENS, scales=((1, 1), (2, 2), (4, 4)))
NETS: dict[str, tuple[AutoregressorNetConfig, ImageSpec]] = {
    "imagegpt": (GPTConfig(width=16, depth=3, heads=2), PICTURE),
    "vqgpt": (GPTConfig(width=16, depth=2, heads=2), TOKENS),
    "var": (VARConfig(width=16, depth=2, heads=2), SCALES),
    "var of one scale": (VARConfig(width=16, depth=2, heads=2), replace(TOKENS, scales=((4, 4),))),
    "pixelcnn": (PixelCNNConfig(width=9, depth=2), PICTURE),
    "pixelcnn++": (PixelCNNPPConfig(width=6, most=10, components=3), PICTURE),
}
CPU = torch.device("cpu")


def made(config: AutoregressorNetConfig, spec: ImageSpec) -> Autoregressor:
    torch.manual_seed(0)
    net = config.autoregressor(spec, 3).eval()
    for part in net.parameters():
        part.data += 0.2 * torch.randn_like(part)
    return net


def size(tensors: list[Tensor]) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize(("config", "spec"), NETS.values(), ids=NETS.keys())
@torch.no_grad()
def test_what_is_kept_is_what_was_said_from_the_first_site_to_the_last(
    config: AutoregressorNetConfig, spec: ImageSpec, guidance: float
) -> None:
    net = made(config, spec)
    writer = net if guidance == 1 else Guided(net, guidance)
    said, cond = kept_by(writer), Condition(torch.tensor([0, 1, 2, -1, 0]))
    assert said.each > 0
    state, next_one = writer.init_state(5, cond)
    for site, length in enumerate(net.sites):
        assert size(list(tensors_of(state))) == said.of(5)
        if site + 1 < len(net.sites):
            values = next_one.draw(torch.full((5, 1 + length), 0.5))
            state, next_one = writer.step(values, state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["imagegpt", "vqgpt", "var"])
def test_of_transformers_these_are_keys_and_values(name: str, dtype: torch.dtype) -> None:
    config, spec = NETS[name]
    net = made(config, spec).to(dtype)
    bytes_each, total = dtype.itemsize, spec.values
    assert isinstance(config, GPTConfig | VARConfig)
    cache = 2 * config.depth * total * config.width * bytes_each
    told = config.width * bytes_each  # of the class
    if name == "var":
        told += (total - 16) * config.width * bytes_each  # embedded, of all scales but the last
    assert kept_by(net).each == cache + told
    guided = kept_by(Guided(net, 2.0))
    assert guided.each == 2 * (cache + told)
    assert guided.shared == kept_by(net).shared


def test_shapes_are_enough_to_know() -> None:
    """A network without numbers keeps as much: 27 GiB of a picture of 256x256 by the largest imagegpt."""
    with torch.device("meta"):
        net = limner.recipe("imagegpt", "large").net.autoregressor(ImageSpec(3, (256, 256), "RGB"), 0)  # type: ignore[union-attr]
    assert kept_by(net).each == 2 * 24 * (256 * 256 * 3) * 768 * 4


def test_as_many_as_fit() -> None:
    kept = Kept(each=GIB // 4, shared=GIB // 2)
    for memory, batch in ((1.0, 2), (0.99, 1), (0.75, 1), (10.0, 38), (100.0, 64), (math.inf, 64)):
        assert fitting(kept, 64, memory, CPU, ALONE).batch == batch
        assert batch == 64 or kept.of(batch) <= memory * GIB < kept.of(batch + 1)
    with pytest.raises(limner.UserError, match=r"0.75 GiB are kept of one picture .* limit is 0.7 GiB; give --memory"):
        fitting(kept, 64, 0.7, CPU, ALONE)
    with pytest.raises(limner.UserError, match="memory is -1"):
        fitting(kept, 64, -1.0, CPU, ALONE)


def test_what_no_machine_has_is_refused_before_it_is_tried() -> None:
    with pytest.raises(limner.UserError, match=r"GiB are free; give --memory 1.04858e\+06 to try it all the same"):
        fitting(Kept(2**50, 0), 64, None, CPU, ALONE)
    assert fitting(Kept(2**50, 0), 64, math.inf, CPU, ALONE).batch == 64


@pytest.fixture(scope="module", params=["imagegpt", "pixelcnn++"])
def model(request: pytest.FixtureRequest) -> Model:
    config, spec = NETS[request.param]
    return Model(made(config, spec), Identity(), spec, ("a", "b", "c"), ExtendConfig())


def room_for(model: Model, n: int, guidance: float = 1.0) -> float:
    """GiB that hold what is kept of so many and no more."""
    kept = together(model, guidance=guidance).kept
    assert kept is not None
    return (kept.of(n) + kept.each / 2) / GIB


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_pictures_are_the_same_in_little_memory(model: Model, guidance: float) -> None:
    memory = room_for(model, 2, guidance)
    assert together(model, guidance=guidance, memory=memory).batch == 2
    whole = limner.sample(model, 7, guidance=guidance, seed=3)
    assert np.array_equal(limner.sample(model, 7, guidance=guidance, seed=3, memory=memory), whole)
    with pytest.raises(limner.UserError, match="are kept of one picture"):
        limner.sample(model, 7, guidance=guidance, memory=memory / 10)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 11])
def test_so_are_completed_ones_a_few_ways_at_a_time(model: Model, rows: int) -> None:
    given = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)
    mask = np.arange(30).reshape(5, 6) >= 20
    whole = limner.complete(model, given, mask, ways=4, seed=1).pictures
    few = limner.complete(model, given, mask, ways=4, seed=1, memory=room_for(model, rows)).pictures
    assert np.array_equal(few, whole)
    with pytest.raises(limner.UserError, match="are kept of one picture"):
        limner.complete(model, given, mask, memory=room_for(model, 1) / 10)


def test_a_draw_tells_how_many_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = ImageSpec(1, (4, 5), "L")
    config = AutoregressorConfig(GPTConfig(width=8, depth=2, heads=1), spec, ("0", "1"), ExtendConfig())
    save_snapshot(tmp_path / "writer", config, config.network().state_dict(), "")
    model = load(tmp_path / "writer")
    args = ["sample", str(tmp_path / "writer"), "-n", "7", "--out"]
    main([*args, str(tmp_path / "few"), "--memory", f"{room_for(model, 3):.12f}", "--json"])
    values = json.loads(capsys.readouterr().out)
    kept = together(model).kept
    assert kept is not None
    assert (values["batch"], values["kept_bytes"]) == (3, kept.of(3))
    main([*args, str(tmp_path / "all")])
    assert "7 at a time, of which 0.0 MiB were kept" in capsys.readouterr().out
    for path in (tmp_path / "all").glob("?/*.png"):
        assert path.read_bytes() == (tmp_path / "few" / path.relative_to(tmp_path / "all")).read_bytes()
    assert len(list((tmp_path / "few").glob("?/*.png"))) == 7


def test_a_limit_is_for_models_that_write() -> None:
    config = limner.recipe("dcgan", "tiny").net
    spec = ImageSpec(1, (8, 8), "L")
    model = Model(config.generator(spec, 0), Identity(), spec, (), limner.DecodeConfig())  # type: ignore[union-attr]
    assert together(model).kept is None
    with pytest.raises(limner.UserError, match="memory is for models that write; this one decodes a code"):
        limner.sample(model, 2, memory=1.0)
