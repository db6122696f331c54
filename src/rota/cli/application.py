"""The command ``rota`` from its arguments to its exit code, and how its errors reach a person; called by
rota.__main__."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rota.cli import output
from rota.cli.outcome import DETACHED, FAILED
from rota.core.errors import RotaError

if TYPE_CHECKING:
    from rota.cli.commands.doctor import Examine

BROKEN_PIPE = 141  # what a shell shows for a program that SIGPIPE has ended
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_QUICK = frozenset({"ls", "ps", "stats", "status"})


def main(argv: Sequence[str], serve: Callable[[list[str]], int], examine: Examine) -> int:
    """Runs one command and returns its exit code; no traceback ever reaches a person."""
    try:
        code = _run(argv, serve, examine)
        sys.stdout.flush()
        return code
    except RotaError as error:
        output.tell(error.message)
        return error.exit_code
    except KeyboardInterrupt:
        return DETACHED
    except BrokenPipeError:
        _give_stdout_up()
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in _DISK_FULL or error.filename is not None:
            return _bug(error)
        _give_stdout_up()
        output.tell(f"the answer cannot be written: {error.strerror}")
        return FAILED
    except Exception as error:  # noqa: BLE001 -- the last resort: a bug becomes one line, its details a file
        return _bug(error)


def _give_stdout_up() -> None:
    """Else Python complains at its exit of what it could not write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str], serve: Callable[[list[str]], int], examine: Examine) -> int:
    if _is_plain(argv):
        from rota.cli import overview

        app = next((word for word in argv[1:] if word != "--json"), None)
        overview.COMMANDS[argv[0]](app, "--json" in argv)
        return 0
    from rota.cli import tree

    return tree.run(argv, serve, examine)


def _is_plain(argv: Sequence[str]) -> bool:
    """Whether this is a common reading command without anything to explain: Typer, with the 250 ms that it takes to
    load, is then left out."""
    words = [word for word in argv[1:] if word != "--json"]
    most = 0 if argv[:1] == ["ls"] else 1
    return bool(argv) and argv[0] in _QUICK and len(words) <= most and not any(word.startswith("-") for word in words)


def _bug(error: Exception) -> int:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="rota-", suffix=".log", delete=False) as file:
        file.writelines(traceback.format_exception(error))
    output.tell(f"rota failed unexpectedly: {type(error).__name__}: {error}; details in {file.name}")
    return FAILED
