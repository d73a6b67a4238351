"""What classifiers read off the layers of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import limner
from limner.cli import main
from limner.codecs import Identity
from limner.contracts import Condition, ExtendConfig, ImageSpec, Model
from limner.models import GPTConfig, PixelCNNConfig, VARConfig
from limner.models.transformer import Block, WritingTransformer
from limner.probing import fit, probe
from limner.training.snapshot import AutoregressorConfig, save_snapshot

SPEC = ImageSpec(1, (13, 11), "L")


def made(config: GPTConfig | VARConfig, spec: ImageSpec, classes: int = 3) -> WritingTransformer:
    torch.manual_seed(0)
    net = config.autoregressor(spec, classes).double().eval()
    for part in net.parameters():
        part.data += 0.2 * torch.randn_like(part)
    assert isinstance(net, WritingTransformer)
    return net


def normed(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


@torch.no_grad()
def test_features_of_one_layer_are_those_by_hand() -> None:
    """Attention is to the tokens up to each, by the queries and keys of a pair of rows and columns turned."""
    spec = ImageSpec(1, (2, 3), "L")
    net = made(GPTConfig(width=8, depth=1, heads=2), spec)
    values = torch.randint(0, 256, (4, 6))
    state = net.state_dict()
    before = torch.cat([state["start"].expand(4, 1, 8), state["embed.weight"][values[:, :-1]]], dim=1)
    places = (state["rows.weight"][:, None] + state["columns.weight"]).reshape(6, 8)
    x = before + places + state["label.weight"][0]
    first = normed(x, state["blocks.0.norm0.weight"])
    block, heard = cast(Block, net.blocks[0]), torch.zeros(4, 6, 2, 4, dtype=torch.float64)
    query, key, value = block._heard(block.qk(first), block.value(first), net.turns())  # tested where networks are
    for head in range(2):
        scores = query[:, head] @ key[:, head].transpose(1, 2) / 2
        heard[:, :, head] = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf).softmax(-1) @ value[:, head]
    x = x + heard.flatten(2) @ state["blocks.0.out.weight"].T
    h = normed(x, state["blocks.0.norm1.weight"])
    gated = F.silu(h @ state["blocks.0.gate.weight"].T) * (h @ state["blocks.0.up.weight"].T)
    x = x + gated @ state["blocks.0.down.weight"].T
    last = normed(x, state["norm.weight"])
    found = net.features(values, Condition())
    torch.testing.assert_close(found, torch.stack([first.mean(1), last.mean(1)]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (GPTConfig(width=16, depth=2, heads=2), ImageSpec(3, (3, 4), "RGB")),
        (
            VARConfig(width=16, depth=2, heads=2),
            ImageSpec(1, (3, 3), "tokens", codes=9, scales=((1, 1), (3, 3))),
        ),
    ],
)
@torch.no_grad()
def test_features_of_a_picture_are_its_own(config: GPTConfig | VARConfig, spec: ImageSpec) -> None:
    net = made(config, spec)
    values = torch.randint(0, spec.levels, (5, spec.values))
    whole = net.features(values, Condition())
    assert whole.shape == (3, 5, 16)
    parts = torch.cat([net.features(part, Condition()) for part in torch.split(values, 2)], dim=1)
    torch.testing.assert_close(parts, whole, rtol=1e-11, atol=1e-11)
    assert float((net.features(values, Condition(torch.ones(5).long())) - whole).abs().max()) > 0.01


def test_a_regression_is_where_no_slope_is_left() -> None:
    torch.manual_seed(0)
    x, label = torch.randn(60, 5) * torch.tensor([1.0, 100, 0.01, 3, 0]) + 7, torch.randint(0, 4, (60,))
    found = fit(x, label, 4, 0.01)
    z = (x.double() - found.mean) * found.scale
    torch.testing.assert_close(z[:, :4].std(0, correction=0), torch.ones(4).double())
    assert float(z[:, 4].abs().max()) == 0
    off = torch.softmax(found.scores(x), 1) - F.one_hot(label, 4)
    assert float((z.T @ off / 60 + 0.01 * found.weight).abs().max()) < 1e-6
    assert float(off.mean(0).abs().max()) < 1e-6
    assert float(found.weight.abs().max()) > 0.01


def test_of_two_classes_it_is_the_solution_of_newtons_method() -> None:
    """A softmax of two has weights w and -w, each half of those of the sigmoid."""
    torch.manual_seed(1)
    x = torch.randn(80, 3, dtype=torch.float64)
    label = (x[:, 0] + 0.7 * torch.randn(80) > 0.3).long()
    x = (x - x.mean(0)) / x.std(0, correction=0)
    found = fit(x, label, 2, 0.02)
    one, theta = torch.cat([x, torch.ones(80, 1)], 1), torch.zeros(4, dtype=torch.float64)
    decay = torch.tensor([0.01, 0.01, 0.01, 0.0], dtype=torch.float64)
    for _ in range(50):
        p = torch.sigmoid(one @ theta)
        slope = one.T @ (p - label) / 80 + decay * theta
        theta = theta - torch.linalg.solve(one.T @ (one * (p * (1 - p))[:, None]) / 80 + decay.diag(), slope)
    torch.testing.assert_close(found.weight[:, 1] - found.weight[:, 0], theta[:3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.bias[1] - found.bias[0], theta[3], rtol=1e-4, atol=1e-5)


def test_what_can_be_told_apart_is() -> None:
    torch.manual_seed(2)
    label = torch.arange(90) % 3
    x = torch.randn(90, 6) + 40 * F.one_hot(label, 6)
    assert torch.equal(fit(x, label, 3, 1e-3).scores(x).argmax(1), label)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(made(GPTConfig(width=12, depth=2, heads=1), SPEC, 2).float(), Identity(), SPEC, (), ExtendConfig())


def test_every_layer_is_read_and_so_are_the_pixels(model: Model, bars: Path) -> None:
    pictures = limner.open_dataset(str(bars), progress=False)
    found = probe(model, pictures)
    assert [one.name for one in found.layers] == ["layer 0", "layer 1", "layer 2"]
    assert (found.trained, found.held) == (77, 19)
    assert found.best.accuracy == max(one.accuracy for one in found.layers)
    for one in (*found.layers, found.pixels):
        assert 0 <= one.low <= one.accuracy <= one.high <= 1
    assert probe(model, pictures) == found
    assert probe(model, pictures, n=40).trained == 32


def test_as_a_command(model: Model, bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = AutoregressorConfig(GPTConfig(width=12, depth=2, heads=1), SPEC, ("0", "1"), ExtendConfig())
    save_snapshot(tmp_path / "writer", config, model.net.state_dict(), "")
    other = AutoregressorConfig(PixelCNNConfig(width=6, depth=1), SPEC, (), ExtendConfig())
    save_snapshot(tmp_path / "other", other, other.network().state_dict(), "")
    args = ["probe", str(tmp_path / "writer"), "--data", str(bars), "-n", "60"]
    main([*args, "--json"])
    values = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in values["layers"]] == ["layer 0", "layer 1", "layer 2"]
    assert (values["trained"], values["held"], values["pixels"]["name"]) == (48, 12, "pixels")
    main(args)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[-1].startswith(f"best: {values['best']}")
    np.savez(tmp_path / "plain.npz", images=np.zeros((30, 13, 11, 1), np.uint8))
    for changed, said in (
        (["probe", str(tmp_path / "other"), "--data", str(bars)], "imagegpt, vqgpt, var or dalle; this model is none"),
        ([*args, "--data.size", "8", "8"], "L of 8x8 and 8 bits; this model knows L of 13x11"),
        ([*args[:2], "--data", str(tmp_path / "plain.npz")], "have no classes"),
        ([*args[:-1], "19"], "needs 20 pictures at least, and there are 19"),
        ([*args, "--penalty", "-1"], "penalty is -1"),
        (args[:2], "--data"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(changed)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
