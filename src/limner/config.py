"""Configs as JSON and back: typed frozen dataclasses, checked by pydantic, with unknown names refused by name."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from limner.errors import UserError, nearest

T = TypeVar("T")


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass as plain values that JSON can hold; tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def from_json(kind: type[T], plain: Any, where: str) -> T:
    """The dataclass ``kind`` from plain values.

    Args:
        kind: a dataclass whose fields are typed; unions are told apart by their ``kind`` fields.
        plain: as :func:`to_json` made it, or as a user wrote it.
        where: what to call the source in an error.

    Raises:
        UserError: an unknown field (with the nearest known one), or a value of the wrong type.
    """
    import pydantic

    if not isinstance(plain, Mapping):
        raise UserError(f"{where} must hold an object with the fields of {kind.__name__}")
    for path, name, known in _unknown(kind, plain, ""):
        raise UserError(f"{where}: unknown field '{path}{name}'{nearest(name, known)}")
    try:
        return pydantic.TypeAdapter(kind).validate_python(plain)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: {field}: {first['msg']}") from None


def read_json(path: Path) -> Any:
    """The content of a JSON file of ours.

    Raises:
        UserError: it is missing, unreadable or cut off.
    """
    try:
        if path.stat().st_size > 64 * 2**20:
            raise UserError(f"{path} is larger than 64 MiB; it is not a file of limner")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise UserError(f"{path} is damaged: it is not valid JSON") from None


def _unknown(kind: Any, plain: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, list[str]]]:
    """(path, name, known names) of every key that no field has."""
    hints = get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for name, value in plain.items():
        if name not in known:
            yield path, name, known
        elif isinstance(value, Mapping):
            inner = _dataclass_for(hints[name], value)
            if inner is not None:
                yield from _unknown(inner, value, f"{path}{name}.")


def _dataclass_for(hint: Any, value: Mapping[str, Any]) -> Any:
    """The dataclass among a field's types that a value is meant for, chosen by ``kind`` where there are several."""
    union = get_origin(hint) in (Union, types.UnionType)
    choices = [one for one in (get_args(hint) if union else (hint,)) if dataclasses.is_dataclass(one)]
    for choice in choices:
        tag = next((field.default for field in dataclasses.fields(choice) if field.name == "kind"), None)
        if len(choices) == 1 or tag == value.get("kind"):
            return choice
    return None
