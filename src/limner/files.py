"""Files that are whole or not there at all: a temporary name, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limner.errors import UserError


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Have ``write`` fill a temporary file beside ``path``, then put it there in one step.

    Raises:
        UserError: the disk is full, or the folder cannot be written. What stood at ``path`` is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors makes files that nobody but their owner may read
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(_reason(path, error)) from None
    finally:
        with contextlib.suppress(OSError):  # gone already, or it never came to be
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """:func:`write_whole` of a UTF-8 text; half characters, which UTF-8 cannot hold, are spelled out."""
    write_whole(path, lambda temporary: _fill(temporary, text))


def write_json(path: Path, content: Any) -> None:
    """:func:`write_whole` of plain values as JSON."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def expanded(path: str | Path) -> Path:
    """The path with the user's folder for ``~``; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _fill(path: Path, text: str) -> None:
    # Of half characters this makes the escapes that JSON reads back.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {path.name} could not be written to {path.parent}; free some space and try again"
    return f"{path} cannot be written: {error.strerror or error}; choose another folder"
