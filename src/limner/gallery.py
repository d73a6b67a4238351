"""A folder of drawn pictures: one file each, in a folder a class where there are classes, and a hidden list of them, so
that a later draw replaces what an earlier one has left and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from limner.config import from_json, read_json, to_json
from limner.data.levels import Pixels
from limner.errors import UserError, within
from limner.files import write_json
from limner.sampling.draw import MOST
from limner.training.grids import save_picture

LIST = ".drawn.json"
#: What :func:`class_folder` makes of names.
_FOLDER = re.compile(r"(?:[a-z0-9_-]|%[0-9a-f]{4})*")


@dataclass(frozen=True)
class Drawn:
    """What a draw has put into a folder so far.

    Attributes:
        pictures: how many, numbered from 0.
        folders: that they lie in, by turns; "" is the folder itself.

    Raises:
        UserError: no such list was ever written.
    """

    pictures: int
    folders: tuple[str, ...]

    def __post_init__(self) -> None:
        within("pictures", self.pictures, 0, MOST)
        if not self.folders or not all(_FOLDER.fullmatch(one) for one in self.folders):
            raise UserError("folders are not those of a draw")

    def file(self, number: int) -> Path:
        """Where that picture lies in the folder."""
        return Path(self.folders[number % len(self.folders)], f"{number:06d}.png")

    def there(self, out: Path) -> set[Path]:
        """What lies in ``out`` under the names of these pictures."""
        found: set[Path] = set()
        for place in {out / folder for folder in self.folders if (out / folder).is_dir()}:
            numbered = (one for one in place.glob("*.png") if one.stem.isdecimal() and one.stem.isascii())
            found |= {one for one in numbered if self._has(int(one.stem[:9]), one.relative_to(out))}
        return found

    def _has(self, number: int, file: Path) -> bool:
        return number < self.pictures and self.file(number) == file


def in_turn(classes: Iterable[str], pictures: int) -> Drawn:
    """So many pictures of these classes by turns; of no classes if there are none."""
    return Drawn(pictures, tuple(map(class_folder, classes)) or ("",))


def class_folder(name: str) -> str:
    """A class's name as a folder's: never a path, never hidden, another one for every name, also where upper and lower
    case are the same."""
    return "".join(c if c.isascii() and (c.islower() or c.isdigit() or c in "-_") else _spelled(c) for c in name)


def _spelled(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"%{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def refuse_strangers(out: Path, drawn: Drawn) -> None:
    """Raises a UserError if pictures would come where something lies that no earlier draw has put there."""
    strangers = sorted(drawn.there(out) - _own(out))
    if strangers:
        raise UserError(f"{strangers[0]} is not of an earlier draw and would be lost; choose another --out")


def put(images: Pixels, drawn: Drawn, out: Path) -> list[str]:
    """Write the last ``len(images)`` pictures of ``drawn``; with the first ones an earlier draw makes room, for its
    pictures would be taken for this one's. Returns their paths.

    Raises:
        UserError: something of somebody else's would be lost, or the folder cannot be written.
    """
    first = drawn.pictures - len(images)
    if first == 0:
        refuse_strangers(out, drawn)
        _make_room(out)
    write_json(out / LIST, to_json(drawn))  # before the pictures: a kill leaves none that is not listed
    paths = [out / drawn.file(first + i) for i in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        save_picture(image, path)
    return [*map(str, paths)]


def _own(out: Path) -> set[Path]:
    """The pictures that an earlier draw has listed; links are never its own, nor what lies behind them.

    Raises:
        UserError: the list is damaged.
    """
    path = out / LIST
    if path.is_symlink() or not path.is_file():
        return set()
    listed = from_json(Drawn, read_json(path), str(path)).there(out)
    linked = {parent for parent in {one.parent for one in listed} if parent != out and parent.is_symlink()}
    return {one for one in listed if one.is_file() and not one.is_symlink() and one.parent not in linked}


def _make_room(out: Path) -> None:
    own = _own(out)
    for picture in own:
        picture.unlink()
    for folder in {one.parent for one in own} - {out}:
        if not any(folder.iterdir()):
            folder.rmdir()
    (out / LIST).unlink(missing_ok=True)
