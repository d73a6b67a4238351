"""The one exception that a user's mistake raises, and what its line says."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right. One line: what, where, what to do.

    The command line prints the line and exits with code 2, never with a traceback.
    """


def missing(what: str, extra: str) -> UserError:
    """The error of something that takes packages which are not installed; ``what`` is in the plural."""
    return UserError(f"{what} need packages that are not installed: pip install 'limner[{extra}]'")


def nearest(name: str, known: Iterable[str]) -> str:
    """A ``; did you mean 'x'?`` for a mistyped name, or the known names if none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""


def within(name: str, value: float, lowest: float, highest: float = math.inf) -> None:
    """Refuse a setting outside its bounds, which it may reach.

    Raises:
        UserError: it is outside, or no number.
    """
    if not lowest <= value <= highest:
        wanted = f"at least {_shown(lowest)}" if highest == math.inf else f"from {_shown(lowest)} to {_shown(highest)}"
        raise UserError(f"{name} is {_shown(value)}; give a number {wanted}")


def power_of_two(name: str, value: int) -> None:
    """Refuse a setting that is no power of two, nor 0.

    Raises:
        UserError: it is none.
    """
    if value & (value - 1):
        raise UserError(f"{name} is {value}; give a power of two, 2 or 4 say")


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
