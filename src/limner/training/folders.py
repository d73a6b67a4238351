"""Folders that runs are written to: nothing in them is lost, and no two sittings share one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from limner.distributed import World
from limner.errors import UserError

RECIPE = "recipe.json"
LOCK = ".lock"


class Taken(UserError):  # noqa: N818 - it is what the place is
    """Somebody has been in a folder already, or is at work in it."""


def vacant(place: Path) -> bool:
    """Whether nothing can be lost there: no file, and no folder that holds more than the lock of a run which never
    began."""
    return not place.exists() or (place.is_dir() and all(one.name == LOCK for one in place.iterdir()))


def refuse_taken(out: Path, instead: str = "") -> None:
    """Raises :class:`Taken` if the place is not vacant; ``instead`` goes on with what else there is to do."""
    if not vacant(out):
        raise Taken(f"{out} already exists; choose another --out{instead}")


def refuse_run(out: Path) -> None:
    """:func:`refuse_taken` for a new run."""
    refuse_taken(out, f", or go on with: limner train --resume {out}")


@contextmanager
def claimed(places: Iterable[Path], world: World) -> Iterator[Path]:
    """The first of these places that is vacant, made a folder that nobody else may train in meanwhile.

    Raises:
        UserError: none is vacant, or it cannot be written.
    """
    with ExitStack() as sitting:
        yield Path(world.lead(lambda: _claim(places, sitting)))


def _claim(places: Iterable[Path], sitting: ExitStack) -> str:
    refused = Taken("there is no place for the run")
    for place in places:
        try:
            sitting.enter_context(_new(place))
        except Taken as error:
            refused = error
        else:
            return str(place)
    raise refused


@contextmanager
def _new(place: Path) -> Iterator[None]:
    refuse_run(place)  # before anything is put there
    with _locked(place):
        refuse_run(place)  # nobody has been there in between
        yield


@contextmanager
def taken_up(folder: Path, world: World) -> Iterator[None]:
    """A run's folder for one more sitting, in which nobody else may train in it.

    Raises:
        UserError: it is no run, or somebody does.
    """
    with ExitStack() as sitting:
        world.lead(lambda: _take_up(folder, sitting))
        yield


def _take_up(folder: Path, sitting: ExitStack) -> None:
    if not (folder / RECIPE).is_file():
        raise UserError(f"{folder} is not a run: it has no {RECIPE}")
    sitting.enter_context(_locked(folder))


def sweep(folder: Path, parts: Iterable[str]) -> None:
    """Delete what killed saves have left in some sub-folders (:func:`limner.files.write_whole` names it); "" is the
    folder itself."""
    for part in parts:
        for path in (folder / part).glob(".*.tmp"):
            path.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make the folder and hold a lock on it, which ends with the process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a")
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}; choose another folder") from None
    with file:
        if not _alone(file):
            raise Taken(f"a training is under way in {folder}; wait until it has ended")
        yield


def _alone(file: IO[str]) -> bool:
    """Whether nobody else holds the lock; where the system has none, nobody is known of."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems cannot lock
        return True
    return True
