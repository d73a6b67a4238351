"""From what the user wrote to a source: which reader, and a key that changes when the content does."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from limner.data import catalogue, dicom, hub, layout, raw, shards
from limner.data.config import DataConfig
from limner.data.sources import FileSource, RawSource, Source, check_raw
from limner.data.stores import FolderStore, ZipStore, edges
from limner.data.tars import SUFFIX, TarStore, expand, is_pattern
from limner.errors import UserError, nearest
from limner.files import expanded

BUILTIN = "builtin:"
_BUILTINS = ("glyphs", "shapes")


@dataclass(frozen=True)
class Resolved:
    """A source that is found, not yet read.

    Attributes:
        name: as reports should call it.
        key: says what the content is, cheaply.
        load: reads the listing or the arrays; raises UserError.
        shards: the tar archives that it consists of, () if it is something else.
    """

    name: str
    key: tuple[str, ...]
    load: Callable[[], Source]
    shards: tuple[Path, ...] = ()


def resolve(config: DataConfig, downloads: Path, *, progress: bool = False) -> Resolved:
    """Find a source. Raises UserError, with the nearest known name where a name is mistyped.

    Args:
        config: the settings; only what the source depends on is looked at.
        downloads: where files of the catalogue are kept.
        progress: allow bars of what has to be downloaded.
    """
    name = config.source
    if name.startswith(BUILTIN):
        return _builtin(config)
    if name.startswith(hub.PREFIX):
        return _hub(name, progress)
    path = expanded(name)
    if is_pattern(name) and not path.exists():
        return _tars(expand(name), name)
    if path.is_dir():
        return _folder(path, name)
    if path.is_file():
        return _file(path, name)
    if path.suffix or len(path.parts) != 1:
        raise UserError(f"no data at '{name}': there is no such file or folder")
    return _named(name, downloads)


def absolute(source: str) -> str:
    """The source, as it is called from any folder."""
    if source.startswith(hub.PREFIX):
        address = hub.Address.of(source)
        if address.folder is None:
            return source
        return f"{hub.PREFIX}{address.folder.resolve()}{source.removeprefix(hub.PREFIX + address.name)}"
    path = expanded(source)
    if path.exists():
        return str(path.resolve())
    return str(path.absolute()) if is_pattern(source) else source


def _folder(path: Path, name: str) -> Resolved:
    store = FolderStore(path)
    listing = store.entries()
    if layout.holds_tars(listing):
        return _tars(tuple(path / entry.name for entry in listing if entry.name.endswith(SUFFIX)), name)
    digest = hashlib.sha256()
    for entry in listing:
        digest.update(f"{entry.name}\0{entry.size}\0{entry.offset}\n".encode(errors="surrogateescape"))
    return Resolved(name, ("folder", digest.hexdigest()), lambda: layout.arrange(store, name, listing))


def _hub(name: str, progress: bool) -> Resolved:
    rows, split = hub.open_rows(name, progress)
    key = ("hub", rows._fingerprint, str(len(rows)), split)
    return Resolved(name, key, lambda: hub.arrange(rows, split, name))


def _tars(paths: tuple[Path, ...], name: str) -> Resolved:
    digest = hashlib.sha256(repr([_stamp(path) for path in paths]).encode(errors="surrogateescape"))
    return Resolved(name, ("tar", digest.hexdigest()), lambda: shards.arrange(TarStore(paths), name), paths)


def _file(path: Path, name: str) -> Resolved:
    if path.suffix.lower() == SUFFIX:
        return _tars((path,), name)
    if SUFFIX in path.suffixes[-2:-1] or path.suffix.lower() == ".tgz":
        raise UserError(f"'{name}' is compressed as a whole, so no file of it can be read alone; unpack it to a .tar")
    load = _loader(path, name)
    labels = raw.label_file(path) if load is raw.read_idx else None
    key = tuple(part for file in (path, labels) if file is not None for part in _stamp(file))
    return Resolved(name, ("file", *key), lambda: load(path))


def _loader(path: Path, name: str) -> Callable[[Path], Source]:
    """By content, as far as it tells: an .npz is a zip archive too."""
    try:
        with path.open("rb") as file:
            start = file.read(dicom.START)
    except OSError as error:
        raise UserError(f"cannot read '{name}': {error.strerror}") from error
    if path.suffix.lower() == ".npz":
        return raw.read_npz
    if path.suffix.lower() == ".zip" or start[:2] == b"PK":
        return lambda path: layout.arrange(ZipStore(path), name)
    if dicom.matches(start):
        return layout.single
    if start[:2] in (b"\x1f\x8b", b"\0\0"):
        return raw.read_idx
    raise UserError(
        f"'{name}' is not a source that is read: a folder, .zip, .tar, .npz, idx .gz, DICOM, {hub.PREFIX}NAME, a known "
        f"set or {BUILTIN}NAME"
    )


def _stamp(path: Path) -> tuple[str, ...]:
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}") from error
    return (os.fspath(path.resolve()), str(stat.st_size), str(stat.st_mtime_ns), edges(path))


def _named(name: str, downloads: Path) -> Resolved:
    located = catalogue.locate(name, downloads)
    key = ("catalogue", name, *(sha256 for _, sha256 in located.files))
    return Resolved(name, key, lambda: _from_catalogue(located, name))


def _from_catalogue(located: catalogue.Located, name: str) -> Source:
    located.check()
    entry, path = located.entry, located.files[0][0]
    source = _loader(path, name)(path)
    if entry.captions is not None and isinstance(source, FileSource):
        table = layout.read_table(located.files[-1][0].read_text(encoding="utf-8"), entry.captions.mirror)
        source = layout.with_captions(source, table)
    notes = (*source.notes, *([entry.note] if entry.note else []), f"licence: {entry.licence}")
    return replace(source, labels=entry.labels or source.labels, notes=notes, mirror_ok=entry.mirror_ok)


def _builtin(config: DataConfig) -> Resolved:
    name, _, query = config.source.removeprefix(BUILTIN).partition("?")
    if name not in _BUILTINS:
        raise UserError(f"no built-in set '{name}'{nearest(name, _BUILTINS)}")
    options = _options(query, config.source)
    module = importlib.import_module(f"{__package__}.{name}")
    render: Callable[[dict[str, str], tuple[int, int] | None], RawSource] = module.source
    key = ("builtin", name, str(module.VERSION), repr(sorted(options.items())), repr(config.size))
    return Resolved(config.source, key, lambda: check_raw(render(options, config.size), config.source))


def _options(query: str, source: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not equals or key in options:
            raise UserError(f"'{part}' in '{source}' is not an option; write {BUILTIN}NAME?key=value&key=value")
        options[key] = value
    return options
