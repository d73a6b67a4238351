"""dinov2 and clip through transformers: tiny models with random weights, saved and loaded by path."""

from __future__ import annotations

import os
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from limner.errors import UserError
from limner.features import extract, load_extractor
from limner.features.hub import resized
from limner.metrics import evaluate

transformers = pytest.importorskip("transformers", reason="the extra 'hub' is not installed")
MIRROR = os.environ.get("LIMNER_MIRROR")


def _noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _small() -> dict[str, int]:
    return {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    torch.manual_seed(0)
    # As published: trained at 518, so that its place embeddings are interpolated at 224.
    net = transformers.Dinov2Model(transformers.Dinov2Config(**_small(), image_size=518, patch_size=14))
    folder = tmp_path_factory.mktemp("dinov2")
    net.save_pretrained(folder)
    return folder, net.eval()


def _vision() -> Any:
    return transformers.CLIPVisionConfig(
        **_small(), intermediate_size=64, image_size=56, patch_size=14, projection_dim=24
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    torch.manual_seed(1)
    net = transformers.CLIPVisionModelWithProjection(_vision())
    folder = tmp_path_factory.mktemp("clip")
    net.save_pretrained(folder)
    return folder, net.eval()


def _scaled(images: np.ndarray, side: int, mean: list[float], std: list[float]) -> torch.Tensor:
    x = resized(images, side, torch.device("cpu"))
    return (x - torch.tensor(mean)[None, :, None, None]) / torch.tensor(std)[None, :, None, None]


def test_dinov2_gives_its_class_token_at_224(dinov2: tuple[Path, Any]) -> None:
    folder, net = dinov2
    extractor = load_extractor(f"dinov2={folder}")
    images = _noise((3, 30, 40, 3))
    found = extractor(images)
    assert found.shape == (3, extractor.dim) == (3, 32)
    with torch.no_grad():
        x = _scaled(images, 224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        expected = net(pixel_values=x)
    torch.testing.assert_close(found, expected.last_hidden_state[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, expected.pooler_output, rtol=1e-4, atol=1e-5)
    assert "bicubic antialiased 224x224" in extractor.resizer
    np.testing.assert_allclose(extract(extractor, images, batch=2), found, rtol=1e-4, atol=1e-5)


def test_clip_gives_its_image_embedding(clip: tuple[Path, Any]) -> None:
    folder, net = clip
    extractor = load_extractor(f"clip={folder}")
    images = _noise((3, 20, 20, 1))
    assert extractor.dim == 24
    with torch.no_grad():
        x = _scaled(images, 56, [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
        expected = net(pixel_values=x).image_embeds
    torch.testing.assert_close(extractor(images), expected, rtol=1e-4, atol=1e-5)


def test_a_whole_clip_is_taken_for_its_eyes(clip: tuple[Path, Any], tmp_path: Path) -> None:
    """The published folders hold the text tower too."""
    _, net = clip
    text = transformers.CLIPTextConfig(**_small(), intermediate_size=64, vocab_size=50, max_position_embeddings=8)
    config = transformers.CLIPConfig(text_config=text.to_dict(), vision_config=_vision().to_dict(), projection_dim=24)
    whole = transformers.CLIPModel(config)
    whole.vision_model.load_state_dict(net.vision_model.state_dict())
    whole.visual_projection.load_state_dict(net.visual_projection.state_dict())
    whole.save_pretrained(tmp_path)
    images = _noise((2, 20, 20, 3))
    eyes = load_extractor(f"clip={tmp_path}")
    torch.testing.assert_close(eyes(images), load_extractor(f"clip={clip[0]}")(images))


def test_half_precision_weights_are_seen_in_float32(dinov2: tuple[Path, Any], tmp_path: Path) -> None:
    _, net = dinov2
    half = transformers.Dinov2Model(net.config)
    half.load_state_dict(net.state_dict())
    half.half().save_pretrained(tmp_path)
    images = _noise((2, 16, 16, 3))
    found, full = (load_extractor(f"dinov2={folder}")(images) for folder in (tmp_path, dinov2[0]))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, full, rtol=0.02, atol=0.02)


def test_scores_carry_the_extractor_and_its_weights(dinov2: tuple[Path, Any], clip: tuple[Path, Any]) -> None:
    eyes = [load_extractor(f"dinov2={dinov2[0]}"), load_extractor(f"clip={clip[0]}")]
    assert eyes[0].fingerprint != eyes[1].fingerprint
    assert load_extractor(f"dinov2={dinov2[0]}").fingerprint == eyes[0].fingerprint
    report = evaluate(_noise((20, 8, 8, 3)), _noise((24, 8, 8, 3), 1), extractor=eyes[1], metrics=("fd", "kid"))
    assert list(report.scores) == ["fd_clip_20", "kid_clip_20"]
    assert eyes[1].fingerprint in str(report.scores["fd_clip_20"].receipt)


@pytest.mark.skipif(not MIRROR, reason="LIMNER_MIRROR names no folder with real pictures")
def test_the_resize_is_pillows_on_a_photograph() -> None:
    with zipfile.ZipFile(Path(str(MIRROR)) / "flowers" / "train96.zip") as archive:
        name = next(one for one in archive.namelist() if one.lower().endswith((".jpg", ".png")))
        photo = Image.open(BytesIO(archive.read(name))).convert("RGB")
    for side in (224, 40):
        ours = resized(np.asarray(photo)[None], side, torch.device("cpu"))[0].permute(1, 2, 0).numpy() * 255
        theirs = np.asarray(photo.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        apart = np.abs(ours - theirs)
        assert apart.max() <= 1.01  # halves are rounded one way or the other
        assert (apart > 0.5).mean() < 0.002


def test_mistakes_are_one_line(dinov2: tuple[Path, Any], clip: tuple[Path, Any], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text((dinov2[0] / "config.json").read_text())
    torch.save(dinov2[1].state_dict(), pickled / "pytorch_model.bin")
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "config.json").write_text((dinov2[0] / "config.json").read_text())
    (cut / "model.safetensors").write_bytes((dinov2[0] / "model.safetensors").read_bytes()[:5000])
    for name, message in (
        (f"dinov2={empty}", "cannot load"),
        (f"dinov2={pickled}", "cannot load.*safetensors"),
        (f"dinov2={cut}", "cannot load"),
        (f"dinov2={clip[0]}", "is not a Dinov2Model"),
        (f"clip={dinov2[0]}", "cannot load|is not a CLIPVision"),
        (f"clip={tmp_path / 'none'}", "give a folder that transformers saved"),
        (f"clip={dinov2[0] / 'config.json'}", "give a folder that transformers saved"),
        ("dinov2=", "names nothing after '='"),
    ):
        with pytest.raises(UserError, match=message) as error:
            load_extractor(name)
        assert "\n" not in str(error.value), name


def test_a_missing_extra_says_what_to_install(dinov2: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'limner\[hub\]'"):
        load_extractor(f"dinov2={dinov2[0]}")


def test_loading_is_silent_and_leaves_the_logging_as_it_was(
    dinov2: tuple[Path, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    log = transformers.utils.logging
    before = log.get_verbosity(), log.is_progress_bar_enabled()
    load_extractor(f"dinov2={dinov2[0]}")
    assert capfd.readouterr() == ("", "")
    assert (log.get_verbosity(), log.is_progress_bar_enabled()) == before
