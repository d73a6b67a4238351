"""What is fetched from elsewhere, checked, and where it is kept."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from limner.errors import UserError
from limner.files import expanded

_BLOCK = 2**20
_TIMEOUT = 30.0


def cache_root(cache: Path | None) -> Path:
    """``cache``, else $LIMNER_CACHE, else limner in the user's cache folder."""
    if cache is not None:
        return cache
    named = os.environ.get("LIMNER_CACHE")
    if named:
        return expanded(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limner"


def download(url: str, path: Path, sha256: str, size: int) -> None:
    """Fetch ``url`` (https only) to ``path``: at most ``size`` bytes, kept only if the checksum is right."""
    if not url.startswith("https://"):
        raise UserError(f"'{url}' is not https; nothing is downloaded from it")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, temporary.open("wb") as file:
            if not answer.geturl().startswith("https://"):
                raise UserError(f"'{url}' leads to a place that is not https; nothing is downloaded from it")
            left = size + 1
            while left > 0 and (block := answer.read(min(_BLOCK, left))):
                left -= file.write(block)
            file.flush()
            os.fsync(file.fileno())
        check(temporary, sha256)
        temporary.replace(path)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise UserError(f"'{url}' cannot be downloaded to '{path}': {error}; or set LIMNER_MIRROR") from error
    finally:
        temporary.unlink(missing_ok=True)


def check(path: Path, sha256: str) -> None:
    """A UserError if the file's SHA-256 is another."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}") from error
    if found != sha256:
        raise UserError(f"'{path}' is not the file it should be: SHA-256 {found[:16]}..., expected {sha256[:16]}...")
