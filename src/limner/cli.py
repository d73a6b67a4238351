"""The command line: what it prints, and with what code it ends. A user's mistake is one line and code 2."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from limner.allocator import keep_freed_memory
from limner.arguments import command_of, overview
from limner.commands import Outcome
from limner.distributed import ALONE, Lost, World, join, out_of_memory
from limner.errors import UserError
from limner.training.stopping import Interrupted

#: Of whatever command.
_NO_MEMORY = (
    "memory has run out: train with a smaller --training.batch or a larger --training.accumulate, draw or judge fewer "
    "pictures with -n, or draw smaller ones with --size; what was saved before is whole"
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0, 2 after a user's mistake, 128 + the signal's number after an interruption.

    Under torchrun every process runs it, and one of them tells.
    """
    keep_freed_memory()
    world = ALONE
    try:
        world = join()
        _run(list(sys.argv[1:] if argv is None else argv), world)
        world.leave()
    except UserError as error:
        _end(world, str(error), 2)
    except Interrupted as stopped:  # as one: all processes know of it
        if world.first:
            print(f"limner: {stopped}", file=sys.stderr)
        world.leave()
        sys.exit(128 + stopped.number)
    except Lost as error:
        _end(world, str(error), 2)
    except KeyboardInterrupt:
        world.failing()
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has gone; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:  # the disk, a permission, a lost mount: never a matter of a traceback
        where = f": {error.filename}" if error.filename else ""
        _end(world, f"{error.strerror or error}{where}; what was saved before is whole", 2)
    except Exception as error:
        if out_of_memory(error):
            _end(world, _NO_MEMORY, 2)
        if not world.failing():  # a consequence of what another process has told
            sys.exit(2)
        raise


def _end(world: World, line: str, code: int) -> NoReturn:
    """Exit with a line, unless another process has failed before and told why."""
    if world.failing():
        print(f"limner: {line}", file=sys.stderr)
    sys.exit(code)


def _run(args: list[str], world: World) -> None:
    if not args or args[0] in ("-h", "--help"):
        _say(overview(), world)
        return
    if args[0] == "--version":
        from importlib.metadata import version

        _say(version("limner"), world)
        return
    command = command_of(args)
    outcome: Outcome = command.run()
    _say(jsonlib.dumps(outcome.values) if command.json else "\n".join(outcome.lines), world)


def _say(text: str, world: World) -> None:
    if world.first:
        print(text)


if __name__ == "__main__":
    main()
