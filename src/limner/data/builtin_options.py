"""Checks what the address of a built-in set asks for (``builtin:NAME?key=value&…``), the same way for every set."""

from __future__ import annotations

from collections.abc import Collection

from limner.errors import UserError, nearest


def check_known(name: str, options: Collection[str], known: tuple[str, ...]) -> None:
    """Raises UserError if an option is none of ``known``."""
    for key in options:
        if key not in known:
            raise UserError(f"{name} has no option {key!r}{nearest(key, known)}")


def choice(name: str, options: dict[str, str], key: str, known: tuple[str, ...]) -> str:
    """The value of a key, the first of ``known`` if it is not given. Raises UserError if it is none of them."""
    value = options.get(key, known[0])
    if value not in known:
        raise UserError(f"{name} has no {key} {value!r}{nearest(value, known)}")
    return value


def whole_number(name: str, options: dict[str, str], key: str, default: int, low: int, high: int) -> int:
    """The value of a key in decimal digits. Raises UserError if it is none, or not from ``low`` to ``high``."""
    text = options.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high):
        raise UserError(f"{name}: {key}={text!r} is not a whole number from {low} to {high}")
    return int(text)


def check_size(name: str, size: tuple[int, int], low: int, high: int) -> tuple[int, int]:
    """(height, width), unchanged. Raises UserError if a side is not from ``low`` to ``high`` pixels."""
    if not all(low <= side <= high for side in size):
        raise UserError(f"{name} draws {low} to {high} pixels a side, not {size[0]}x{size[1]}")
    return size


def check_pixels(name: str, count: int, size: tuple[int, int], channels: int, high: int = 2**34) -> None:
    """Raises UserError if the pictures together would take more than ``high`` bytes."""
    if count * size[0] * size[1] * channels > high:
        raise UserError(
            f"{name}: {count} pictures of {size[0]}x{size[1]} are too many: ask for a smaller count or size"
        )
