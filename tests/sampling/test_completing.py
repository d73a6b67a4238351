from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import limner
from limner.codecs import Identity
from limner.contracts import ExtendConfig, ImageSpec, Model
from limner.models import AutoregressorNetConfig, GPTConfig, PixelCNNConfig, PixelCNNPPConfig
from limner.sampling.completing import complete, unseen

SPEC = ImageSpec(3, (6, 5), "RGB")
CONFIGS = [
    PixelCNNPPConfig(width=6, most=8, blocks=1, components=3),
    PixelCNNConfig(width=6, depth=2),
    GPTConfig(width=16, depth=2, heads=2),
]


def made(config: AutoregressorNetConfig) -> Model:
    torch.manual_seed(0)
    net = config.autoregressor(SPEC, 3).eval()
    for part in net.parameters():
        part.data += 0.2 * torch.randn_like(part)
    return Model(net, Identity(), SPEC, ("a", "b", "c"), ExtendConfig())


@pytest.fixture(scope="module", params=CONFIGS, ids=["pixelcnn++", "pixelcnn", "gpt"])
def model(request: pytest.FixtureRequest) -> Model:
    return made(request.param)


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 6, 5, 3), dtype=np.uint8)


def lower(rows: int = 3) -> np.ndarray:
    mask = np.zeros((6, 5), bool)
    mask[rows:] = True
    return mask


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_ways_that_share_what_is_known_are_those_written_alone(model: Model, guidance: float) -> None:
    config, given = ExtendConfig(guidance=guidance), pictures(4)
    classes = [0, 1, 2, 0]
    found = complete(model, given, lower(), ways=3, label=classes, seed=5, config=config).pictures
    assert found.shape == (4, 3, 6, 5, 3)
    each = np.repeat(classes, 3).tolist()
    alone = complete(model, given.repeat(3, axis=0), lower(), label=each, seed=5, config=config)
    assert np.array_equal(found.reshape(12, 6, 5, 3), alone.pictures[:, 0])
    parts = complete(model, given, lower(), ways=3, label=classes, seed=5, config=config, batch=4).pictures
    assert np.array_equal(parts, found)


def test_what_is_known_stays_and_the_rest_varies(model: Model) -> None:
    given, mask = pictures(3), np.zeros((6, 5), bool)
    mask[1:4, 2:4] = True
    found = complete(model, given, mask, ways=4)
    assert np.array_equal(
        found.pictures[:, :, ~mask], np.broadcast_to(given[:, None], found.pictures.shape)[:, :, ~mask]
    )
    assert all(len({way.tobytes() for way in picture}) == 4 for picture in found.pictures)
    assert found.unseen == pytest.approx((30 - 7 - 6) / (30 - 6))


def test_all_of_it_is_a_sample_and_nothing_of_it_the_picture(model: Model) -> None:
    whole = complete(model, pictures(3), np.ones((6, 5), bool), label=[0, 1, 2], seed=2)
    assert np.array_equal(whole.pictures[:, 0], limner.sample(model, 3, seed=2))
    assert whole.unseen == 0
    given = pictures(3)
    assert np.array_equal(complete(model, given, np.zeros((6, 5), bool)).pictures[:, 0], given)


def test_what_is_written_follows_what_is_known() -> None:
    model, given, mask = made(CONFIGS[0]), pictures(1), lower()
    other = given.copy()
    other[:, 2, 0] ^= 255
    a, b = (complete(model, one, mask, ways=8).pictures[:, :, 3:] for one in (given, other))
    assert not np.array_equal(a, b)


def test_pictures_of_unknown_class_are_of_any_and_nothing_is_guided(model: Model) -> None:
    given, mask = pictures(3), lower()
    free = complete(model, given, mask, guidance=3.0).pictures
    assert np.array_equal(free, complete(model, given, mask, guidance=1.0).pictures)
    classes = [complete(model, given, mask, label=label).pictures for label in range(3)]
    assert not any(np.array_equal(free, one) for one in classes)


def test_a_model_that_was_always_told_the_class_asks_for_it(model: Model) -> None:
    always = replace(model, unconditional=False)
    with pytest.raises(limner.UserError, match="give --label"):
        complete(always, pictures(2), lower())
    assert complete(always, pictures(2), lower(), label="b").pictures.shape == (2, 1, 6, 5, 3)


def test_unseen() -> None:
    assert unseen(lower()) == 0
    assert unseen(~lower()) == 1
    assert unseen(np.ones((2, 2), bool)) == 0


@pytest.mark.parametrize(
    ("given", "mask", "said"),
    [
        (pictures(2)[:, :5], lower(), "this model knows"),
        (pictures(2), lower()[:5], "the mask is"),
        (pictures(2), lower().astype(np.uint8), "of true and false"),
        (pictures(2)[:0], lower(), "this model knows"),
    ],
)
def test_mistakes_get_a_line(model: Model, given: np.ndarray, mask: np.ndarray, said: str) -> None:
    with pytest.raises(limner.UserError, match=said):
        complete(model, given, mask)
