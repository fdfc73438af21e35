"""How a command ends: with an exit code, and errors told in one line."""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Callable

import typer

FAILED = 1
WRONG_INPUT = 2
CRASHED = 70
INTERRUPTED = 130


def finish(work: Callable[[], int]) -> None:
    """Do the work and leave with its exit code; errors meant for the user are one red line."""
    from l2l.suite.core.errors import SuiteError

    try:
        code = work()
    except SuiteError as error:
        _complain(str(error))
        code = WRONG_INPUT
    except KeyboardInterrupt:
        program = ["python"] if sys.argv[0].endswith(".py") else []
        command = " ".join([*program, *map(shlex.quote, sys.argv)])
        _complain(f"Stopped; what is finished is kept. To go on: {command}")
        code = INTERRUPTED
    except Exception as error:
        from l2l.suite.core.blame import told
        from l2l.suite.core.plugins import went_through_plugin

        traceback.print_exc()
        if went_through_plugin(error):
            _complain(f"A plugin raises {told(error)}")
            raise typer.Exit(WRONG_INPUT) from None
        _complain("This is a fault of the suite's own; what is finished is kept.")
        code = CRASHED
    raise typer.Exit(code)


def _complain(text: str) -> None:
    typer.secho(text, file=sys.stderr, fg=typer.colors.RED)
