"""The commands that ask a model for more than samples, as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from limner.cli import main
from limner.contracts import DecodeConfig, ExtendConfig, ImageSpec
from limner.models import DCGANConfig, PixelCNNPPConfig, VQCodecConfig
from limner.tensors import load_tensors
from limner.training.snapshot import AutoregressorConfig, CodecConfig, GeneratorConfig, save_snapshot


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator of bars in two classes that has learned nothing."""
    torch.manual_seed(0)
    config = GeneratorConfig(DCGANConfig(width=4, code=6), ImageSpec(1, (13, 11), "L"), ("0", "1"), DecodeConfig())
    folder = tmp_path_factory.mktemp("gan") / "snapshot"
    save_snapshot(folder, config, config.network().state_dict(), "")
    return folder


def told(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, object]:
    capsys.readouterr()
    main([*map(str, args), "--json"])
    values: dict[str, object] = json.loads(capsys.readouterr().out)
    return values


def test_interpolate(snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid, film = tmp_path / "walk.png", tmp_path / "walk.gif"
    values = told(capsys, "interpolate", snapshot, "--between", 0, 1, 2, "--frames", 4, "--out", grid)
    assert values["pictures"] == 9
    picture = Image.open(grid)
    assert picture.width > picture.height  # two rows of five
    told(capsys, "interpolate", snapshot, "--frames", 2, "--label", 1, "--how", "w", "--out", film)
    with Image.open(film) as moving:
        assert getattr(moving, "n_frames", 0) == 12  # there and back
    with pytest.raises(SystemExit) as ended:
        main(["interpolate", str(snapshot), "--out", str(grid)])
    assert ended.value.code == 2
    assert "--overwrite" in capsys.readouterr().err


def test_invert(snapshot: Path, bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.png"
    told_of = told(capsys, "invert", snapshot, "--reference", bars, "-n", 3, "--steps", 5, "--space", "z", "--out", out)
    assert isinstance(told_of["psnr"], list)
    assert len(told_of["psnr"]) == 3
    assert load_tensors(out.with_suffix(".safetensors"))[0]["w"].shape == (3, 6)
    assert Image.open(out).height > 100
    out.unlink()
    with pytest.raises(SystemExit) as ended:
        main(["invert", str(snapshot), "--reference", str(bars), "--out", str(out)])
    assert ended.value.code == 2
    assert "found.safetensors" in capsys.readouterr().err


def test_directions(snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = told(capsys, "directions", snapshot, "--count", 2, "--frames", 3, "--out", tmp_path / "ways.png")
    found = torch.tensor(values["directions"])
    torch.testing.assert_close(found @ found.T, torch.eye(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["interpolate", "RUN", "--between", "1"], "two pictures or more"),
        (["interpolate", "RUN", "--out", "walk.jpg"], "give a .png"),
        (["interpolate", "RUN", "--frames", "0"], "frames"),
        (["invert", "RUN"], "--reference"),
        (["invert", "RUN", "--reference", "BARS", "-n", "0"], "n is 0"),
        (["directions", "RUN", "--count", "7"], "count"),
        (["directions", "RUN", "--kind", "7", "--extractor", "wavelets"], "it names no classes"),
    ],
)
def test_mistakes(
    args: list[str], said: str, snapshot: Path, bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([{"RUN": str(snapshot), "BARS": str(bars)}.get(arg, arg) for arg in args])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_reconstruct(bars: Path, snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    config = CodecConfig(VQCodecConfig(width=4, codes=8, channels=2), ImageSpec(1, (13, 11), "L"))
    save_snapshot(tmp_path / "codec", config, config.network().state_dict(), "")
    out = tmp_path / "back.png"
    values = told(capsys, "reconstruct", tmp_path / "codec", "--reference", bars, "-n", 5, "--out", out)
    assert values["latents"] == [2, 4, 3]
    assert isinstance(values["measures"], dict)
    assert {name.split("_")[0] for name in values["measures"]} == {"psnr", "ssim"}
    assert Image.open(out).height > 100
    for args, said in (
        (["reconstruct", str(snapshot), "--reference", str(bars)], "no codec"),
        (["sample", str(tmp_path / "codec")], "draws none of its own"),
        (["interpolate", str(tmp_path / "codec")], "decode a code"),
        (["evaluate", str(tmp_path / "codec"), "--reference", str(bars)], "draws none of its own"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*args, *([] if args[0] == "evaluate" else ["--out", str(tmp_path / "other.png")])])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


def test_complete(bars: Path, snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = AutoregressorConfig(
        PixelCNNPPConfig(width=4, most=6, blocks=1, components=2),
        ImageSpec(1, (13, 11), "L"),
        ("0", "1"),
        ExtendConfig(),
    )
    save_snapshot(tmp_path / "writer", config, config.network().state_dict(), "")
    out = tmp_path / "completed.png"
    args = ["complete", tmp_path / "writer", "--reference", bars, "-n", 3, "--ways", 2]
    assert told(capsys, *args, "--out", out)["unseen"] == 0
    assert Image.open(out).width > Image.open(out).height
    mask = Image.new("L", (11, 13))
    mask.paste(255, (3, 2, 8, 6))
    mask.save(tmp_path / "mask.png")
    values = told(capsys, *args, "--mask", tmp_path / "mask.png", "--out", tmp_path / "masked.png")
    assert values["unseen"] == pytest.approx((143 - 25 - 20) / (143 - 20))
    Image.new("L", (9, 9)).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for more, said in (
        (["--mask", tmp_path / "small.png"], "9x9; the pictures are 13x11"),
        (["--mask", tmp_path / "broken.png"], "cannot read the mask"),
        (["--mask", tmp_path / "none.png"], "cannot read the mask"),
        (["--known", 1.5], "known is 1.5"),
        (["--ways", 0], "ways is 0"),
        ([], "completed.png"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in [*args, *more, "--out", out if not more else tmp_path / "other.png"]])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["complete", str(snapshot), "--reference", str(bars), "--out", str(tmp_path / "x.png")])
    assert "models that write, such as" in capsys.readouterr().err
