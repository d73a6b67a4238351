"""What `import limner` brings in: torch and next to nothing, and at first not even that."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "matplotlib",
    "tensorboard",
    "PIL",
    "tyro",
    "rich",
    "pydantic",
    "tokenizers",
    "scipy",
    "torch.utils.tensorboard",
)


def modules_after(line: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{line}\nimport sys\nprint('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_limner_is_light() -> None:
    loaded = modules_after("import limner")
    assert not loaded & {*HEAVY, "torch", "numpy"}


@pytest.mark.parametrize("line", ["from limner import sample, load", "from limner import evaluate, open_dataset"])
def test_using_it_from_python_loads_no_command_line_and_no_plots(line: str) -> None:
    assert not modules_after(line) & {"matplotlib", "tokenizers", "tyro", "rich", "scipy", "torch.utils.tensorboard"}


def test_every_public_name_resolves() -> None:
    import limner

    for name in limner.__all__:
        assert getattr(limner, name) is not None
        assert name in dir(limner)
    with pytest.raises(AttributeError, match="no attribute 'smaple'"):
        _ = limner.smaple  # type: ignore[attr-defined]
