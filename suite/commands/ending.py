"""How a command ends: with an exit code, and errors told in one line."""

from __future__ import annotations

import errno
import functools
import shlex
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

FAILED = 1
WRONG_INPUT = 2
CRASHED = 70
INTERRUPTED = 130

P = ParamSpec("P")


def finished(verb: Callable[P, int]) -> Callable[P, None]:
    """The verb, left with its exit code; errors meant for the user are one red line."""

    @functools.wraps(verb)
    def command(*args: P.args, **options: P.kwargs) -> None:
        from l2l.suite.core.errors import SuiteError

        try:
            code = verb(*args, **options)
        except SuiteError as error:
            _complain(str(error))
            code = WRONG_INPUT
        except KeyboardInterrupt:
            program = ["python"] if sys.argv[0].endswith(".py") else []
            again = shlex.join([*program, *sys.argv])
            _complain(f"Stopped; finished cells are kept. To resume: {again}")
            code = INTERRUPTED
        except Exception as error:
            code = _told(error)
        raise typer.Exit(code)

    return command


def _told(error: Exception) -> int:
    """The exit code after an error that is not meant for the user, who is told whose it is."""
    from l2l.suite.core.blame import told
    from l2l.suite.core.plugins import went_through_plugin

    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG and error.filename:
        _complain(f"{error.filename} is too long for the name of a file: choose a shorter one")
        return WRONG_INPUT
    traceback.print_exc()
    if went_through_plugin(error):
        _complain(f"A plugin raises {told(error)}")
        return WRONG_INPUT
    _complain("This is a bug in the suite; finished cells are kept.")
    return CRASHED


def _complain(text: str) -> None:
    typer.secho(text, file=sys.stderr, fg=typer.colors.RED)
