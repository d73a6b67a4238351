"""The one exception that a user's mistake raises."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right. One line: what, where, what to do.

    The command line prints the line and exits with code 2, never with a traceback.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """A ``; did you mean 'x'?`` for a mistyped name, or the known names if none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""
