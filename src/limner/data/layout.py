"""Which files are pictures, and what their places and side files say of them: classes and captions."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from limner.data.sources import Entry, FileSource, PictureError, Reader, Store, readable
from limner.data.stores import FolderStore
from limner.data.tars import SUFFIX
from limner.errors import UserError

_TEXTS = ("txt", "md", "html", "htm", "rst", "pdf", "log", "py")
_TABULAR = ("json", "jsonl", "csv", "tsv", "xml", "yaml", "yml", "toml", "ini", "db")
_ASIDE = frozenset((*_TEXTS, *_TABULAR))
_DIGITS = re.compile("[0-9]+")
_TABLES = ("metadata.jsonl", "captions.jsonl")
_MOST_TEXT, _MOST_TABLE = 64 * 2**10, 256 * 2**20
_MOSTLY = 0.9  # this share of the pictures in class folders makes the rest strays


def arrange(store: Store, name: str, everything: list[Entry] | None = None) -> FileSource:
    """The pictures of a store, in natural order, with classes and captions.

    A sub-folder is a class; deeper folders belong to the first. A single folder that holds everything is looked
    through. Whether a file truly is a picture is found out later, by its content. ``everything`` is the store's
    listing, where the caller has it already.
    """
    everything = store.entries() if everything is None else everything
    aside = {e.name: e for e in everything if _is_aside(e.name)}
    pictures = sorted((e for e in everything if e.name not in aside), key=lambda e: natural(e.name))
    if not pictures:
        raise UserError(
            f"'{name}' holds no pictures; expected PNG, JPEG, WebP or other image files, or folders of them"
        )
    source = _classes(FileSource(store, tuple(pictures)))
    reader = store.reader()
    try:
        return _captions(source, aside, reader)
    finally:
        reader.close()


def holds_tars(listing: list[Entry]) -> bool:
    """Whether a folder's files are tar archives, but for those beside them that no picture comes from."""
    files = [entry.name for entry in listing if not _is_aside(entry.name)]
    return bool(files) and all(name.endswith(SUFFIX) for name in files)


def single(path: Path) -> FileSource:
    """One picture file as a source."""
    stat = path.stat()
    return FileSource(FolderStore(path.parent), (Entry(path.name, stat.st_size, stat.st_mtime_ns),))


def natural(name: str) -> tuple[str, str]:
    """A key that sorts "img2" before "img10", and no two names alike."""
    return _DIGITS.sub(lambda digits: digits[0].zfill(20), name), name


def _is_aside(name: str) -> bool:
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return bool(dot) and suffix.lower() in _ASIDE


def _classes(source: FileSource) -> FileSource:
    names = [entry.name for entry in source.entries]
    depth = _common(names)
    folders = [folder if slash else None for folder, slash, _ in (name[depth:].partition("/") for name in names)]
    stray = [folder is None for folder in folders]
    if all(stray):
        return source
    if sum(stray) > (1 - _MOSTLY) * len(stray):
        note = f"{sum(stray)} of {len(stray)} pictures lie beside the folders, so the folders are not taken as classes"
        return replace(source, notes=(note,))
    known = sorted({folder for folder in folders if folder is not None}, key=natural)
    labels = tuple(map(readable, known))
    number = {folder: i for i, folder in enumerate(known)}
    inside = [(e, number[f]) for e, f in zip(source.entries, folders, strict=True) if f is not None]
    skipped = tuple(
        (e.name, "lies beside the class folders") for e, out in zip(source.entries, stray, strict=True) if out
    )
    label = np.array([number for _, number in inside], np.int64)
    return replace(source, entries=tuple(e for e, _ in inside), label=label, labels=labels, skipped=skipped)


def _common(names: list[str]) -> int:
    """The length of the folders that all names share, with their last slash."""
    first, last = min(names), max(names)  # what these two share, all share
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first.rfind("/", 0, same) + 1


def _captions(source: FileSource, side: dict[str, Entry], reader: Reader) -> FileSource:
    """Captions from metadata.jsonl (by file_name, relative to it) and from a .txt of the same name."""
    if not side:
        return source
    found, notes = Captions(), list(source.notes)
    for name in (n for n in side if n.rpartition("/")[2] in _TABLES):
        folder = name.rpartition("/")[0]
        try:
            table = read_table(_text(side[name], reader, _MOST_TABLE), name)
        except PictureError as bad:
            raise UserError(f"the captions in '{name}' cannot be read: {bad}") from bad
        prefix = f"{folder}/" if folder else ""
        found.by_name.update({prefix + key: value for key, value in table.by_name.items()})
        notes.extend(table.notes)
    unread = 0
    for entry in source.entries:
        text = side.get(entry.name.rpartition(".")[0] + ".txt")
        if text is not None and entry.name not in found.by_name:
            try:
                found.by_name[entry.name] = _text(text, reader, _MOST_TEXT).strip()
            except PictureError:
                unread += 1
    notes.extend([f"{unread:,} captions in .txt files cannot be read"] if unread else [])
    return with_captions(replace(source, notes=tuple(notes)), found)


def with_captions(source: FileSource, captions: Captions) -> FileSource:
    """The source with these captions; pictures without one have "". None at all leaves the source as it is."""
    texts = tuple(captions.by_name.get(entry.name, "") for entry in source.entries)
    notes = source.notes + tuple(captions.notes)
    missing = texts.count("")
    if missing == len(texts):
        return replace(source, notes=notes)
    if missing:
        notes = (*notes, f"{missing:,} of {len(texts):,} pictures have no caption")
    return replace(source, captions=texts, notes=notes)


@dataclass
class Captions:
    by_name: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_table(text: str, name: str) -> Captions:
    """JSON lines with ``file_name`` (or ``file``) and ``text`` (or ``caption``); lines that are not are noted."""
    captions, bad = Captions(), 0
    for line in text.splitlines():
        if line.strip():
            pair = _pair(line)
            bad += pair is None
            captions.by_name.update([pair] if pair else [])
    if bad:
        captions.notes.append(f"{bad:,} lines of {name} have no file_name and text")
    return captions


def _pair(line: str) -> tuple[str, str] | None:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    file, text = row.get("file_name", row.get("file")), row.get("text", row.get("caption"))
    return (file, readable(text.strip())) if isinstance(file, str) and isinstance(text, str) else None


def _text(entry: Entry, reader: Reader, most: int) -> str:
    if entry.size > most:
        raise PictureError(f"larger than {most >> 10} KiB")
    return reader.read(entry).decode("utf-8-sig", errors="replace")
