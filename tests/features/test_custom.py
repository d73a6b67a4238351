"""``module:function``: a user's own extractor, and what may be wrong with it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from limner.errors import UserError
from limner.features import Extractor, load_extractor
from limner.metrics import evaluate

SHAPE = (6, 8, 3)
Write = Callable[[str], str]


def _noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *SHAPE), dtype=np.uint8)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module of its own name each time, and returns that name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> str:
        name = f"mine_{tmp_path.name.replace('-', '_')}_{len(list(tmp_path.iterdir()))}"
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return name

    return write


def _load(name: str) -> Extractor:
    return load_extractor(name, shape=SHAPE)


def test_it_sees_pictures_in_minus_one_to_one_and_gives_features(module: Write) -> None:
    name = module("def see(x):\n    return x.flatten(1)[:, :5]\n") + ":see"
    extractor = _load(name)
    images = _noise(7)
    expected = torch.from_numpy(images).permute(0, 3, 1, 2).flatten(1)[:, :5] / 127.5 - 1
    torch.testing.assert_close(extractor(images), expected, rtol=1e-5, atol=1e-6)
    assert (extractor.name, extractor.dim) == (name, 5)
    report = evaluate(_noise(20), _noise(30, 1), extractor=extractor, metrics=("fd", "precision"))
    assert list(report.scores) == [f"fd_{name}_20", f"precision_{name}_20_k5"]


def test_a_network_of_the_users_works_as_its_own(module: Write) -> None:
    text = "from torch import nn\nnet = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))\n"
    found = _load(f"{module(text)}:net")(_noise(3))
    assert found.shape == (3, 4)
    assert not found.requires_grad


def test_the_fingerprint_follows_source_and_weights(module: Write, tmp_path: Path) -> None:
    weight = tmp_path / "weight.txt"
    weight.write_text("1.0")
    text = f"def see(x):\n    return x.flatten(1) * float(open({str(weight)!r}).read())\n"
    name = f"{module(text)}:see"
    first = _load(name).fingerprint
    assert _load(name).fingerprint == first
    weight.write_text("2.0")
    assert _load(name).fingerprint != first
    assert _load(f"{module(text)}:see").fingerprint != first


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        ("x = 1", "see", "has no function 'see'"),
        ("def seen(x):\n    return x", "see", "did you mean 'seen'"),
        ("see = 3", "see", "is no function of pictures but int"),
        ("def see(x):\n    return x.nothing", "see", "failed on pictures .*AttributeError"),
        ("def see(x):\n    return [1]", "see", "returned list"),
        ("def see(x):\n    return x", "see", r"made \(4, 3, 6, 8\) of 4 pictures"),
        ("def see(x):\n    return x.flatten(1)[:2]", "see", "of 4 pictures"),
        ("def see(x):\n    return x.flatten(1) / 0", "see", "not finite"),
        ("import torch\ndef see(x):\n    return torch.rand(len(x), 3)", "see", "other features for the same pictures"),
        ("def see(:", "see", "cannot be imported: SyntaxError"),
        ("raise RuntimeError('two\\nlines')", "see", "cannot be imported: RuntimeError: two lines"),
        ("import nothing_of_that_name", "see", "cannot be imported: No module named 'nothing_of_that_name'"),
    ],
)
def test_what_is_wrong_is_one_line(module: Write, text: str, function: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        _load(f"{module(text)}:{function}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_anywhere:see", "no module 'no_such_module_anywhere'.*PYTHONPATH"),
        ("no_such_package.inner:see", "no module"),
        ("a b:see", "not of the form"),
        (":see", "not of the form"),
        ("os:", "not of the form"),
        ("os.path:join=weights", "has no weights"),
    ],
)
def test_names_that_are_none(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _load(name)
