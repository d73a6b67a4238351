"""From the words of a command line to a command: tyro reads them, and what it has against them becomes one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator
from typing import Any, TypeVar, get_args, get_type_hints

import tyro
from tyro import MISSING_NONPROP
from tyro.conf import AvoidSubcommands

from limner.data import DataConfig
from limner.errors import UserError, nearest
from limner.recipes import DEFAULT_MINUTES, size_for
from limner.recipes import recipe as named_recipe
from limner.signatures import COMMANDS, Train

T = TypeVar("T")
#: Nested settings whose first field may be given under the name of the whole: --data SOURCE.
_SHORT = {"--data": "--data.source", "--reference": "--reference.source"}


def overview() -> str:
    width = max(map(len, COMMANDS))
    about = {name: (kind.__doc__ or "").splitlines()[0] for name, kind in COMMANDS.items()}
    return "\n".join(
        [
            "limner: train, sample, judge and compare image generators",
            "",
            *(f"  limner {name:<{width}}  {line}" for name, line in about.items()),
            "",
            "limner COMMAND --help tells all of a command's settings. Begin with: limner demo",
        ]
    )


def command_of(args: list[str]) -> Any:
    """The command that these words name, with all of its settings.

    Raises:
        UserError: an unknown command or option, or a value that cannot be read.
    """
    if args[0] not in COMMANDS:
        raise UserError(f"unknown command '{args[0]}'{nearest(args[0], COMMANDS)}")
    rest = [_SHORT.get(one.split("=")[0], one.split("=")[0]) + one[len(one.split("=")[0]) :] for one in args[1:]]
    kind = COMMANDS[args[0]]
    command = _parse(kind, args[0], rest, _train_defaults(rest) if kind is Train else None)
    if kind is Train and command.resume is not None:
        _refuse_beside_resume(rest)
    return command


def _train_defaults(args: list[str]) -> Train:
    """The recipe's settings as defaults, which all other options then change: its name and size come first."""
    name = args[0] if args and not args[0].startswith("-") else "flow"
    size = _option(args, "--size")
    settings = named_recipe(name, size_for(_minutes(args)) if size in (None, "auto") else size)
    for option, value in _options(args):
        if option.endswith(".kind"):
            settings = _with_kind(settings, option[2:-5].split("."), value)
    return Train(settings=settings, data=DataConfig(""), recipe=name)


def _options(args: list[str]) -> Iterator[tuple[str, str]]:
    for i, one in enumerate(args):
        name, equals, value = one.partition("=")
        if equals:
            yield name, value
        elif i + 1 < len(args):
            yield name, args[i + 1]


def _minutes(args: list[str]) -> float | None:
    """The budget, if it can be read as one; tyro tells of what cannot."""
    if _option(args, "--images") is not None:
        return None
    try:
        return float(_option(args, "--minutes") or DEFAULT_MINUTES)
    except ValueError:
        return None


def _refuse_beside_resume(args: list[str]) -> None:
    """Raises a UserError for what a run that is resumed would not listen to."""
    heard, taken = {"--json", "--no-json"}, {"--resume", "--data.source"}
    rest = iter(args)
    for one in rest:
        if one in taken:
            next(rest, None)
        elif one not in heard and one.partition("=")[0] not in taken:
            told = one.partition("=")[0]
            raise UserError(f"{told} and --resume do not go together: all settings come from the run; leave it out")


def _option(args: list[str], wanted: str) -> str | None:
    return next((value for name, value in _options(args) if name == wanted), None)


def _with_kind(settings: T, path: list[str], kind: str) -> T:
    """The settings with the part at ``path`` replaced by the defaults of its alternative of that kind."""
    name = path[0]
    if not dataclasses.is_dataclass(settings) or name not in {f.name for f in dataclasses.fields(settings)}:
        return settings  # tyro tells of unknown names
    if len(path) > 1:
        inner = _with_kind(getattr(settings, name), path[1:], kind)
        return dataclasses.replace(settings, **{name: inner})  # type: ignore[type-var]
    hint = get_type_hints(type(settings))[name]
    choices = [one for one in get_args(hint) or (hint,) if dataclasses.is_dataclass(one)]
    hints = [(get_type_hints(one).get("kind"), one) for one in choices]
    kinds: dict[str, Any] = {get_args(tag)[0]: one for tag, one in hints if tag is not None}
    if not kinds:
        return settings
    if kind not in kinds:
        raise UserError(f"--{'.'.join(path)}.kind {kind} is unknown{nearest(kind, kinds)}")
    if getattr(settings, name).kind == kind:
        return settings
    return dataclasses.replace(settings, **{name: kinds[kind]()})  # type: ignore[type-var]


def _parse(kind: type[T], name: str, args: list[str], default: T | None) -> T:
    """Parse with tyro; what it has against the arguments becomes one line."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            parsed, unknown = tyro.cli(
                kind,
                prog=f"limner {name}",
                args=args,
                default=MISSING_NONPROP if default is None else default,
                config=(AvoidSubcommands,),
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_one_line(told.getvalue(), name)) from None
    if unknown:
        known = [f"--{path}" for path in _paths(parsed)]
        known += [short for short, option in _SHORT.items() if option in known]
        word = unknown[0].split("=")[0]
        raise UserError(f"unknown option '{word}'{nearest(word, known)} (limner {name} --help lists all)")
    command: T = parsed
    return command


def _one_line(box: str, name: str) -> str:
    """The message inside tyro's box, up to its first rule."""
    words = []
    for line in box.splitlines():
        inside = line.strip("│ ")
        if line.startswith(("╭", "╰")):
            continue
        if inside.startswith("──") or inside.startswith("Got errors"):
            break
        words.append(inside)
    message = re.sub(r"\s+", " ", " ".join(words)).strip()
    return f"{message or 'the arguments cannot be read'} (limner {name} --help)"


def _paths(config: Any, prefix: str = "") -> Iterator[str]:
    """Option names of all fields, as the command line spells them."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        name = item.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            yield from _paths(value, prefix if item.name == "settings" else f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
