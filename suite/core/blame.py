"""Errors of authors' code, told with the author's file and line."""

from __future__ import annotations

import inspect
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.imports import REPOSITORY, is_shipped
from l2l.suite.core.syntax import HARNESS, WHOLE

LIBRARIES = {
    Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")
}
# PyTorch's sentences may be paragraphs.
LONGEST = 110
# The harness is imported through the links of the folder l2l.
OWN = (REPOSITORY / HARNESS, REPOSITORY / WHOLE / HARNESS, REPOSITORY / "reproduce.py")


def author_line(error: BaseException, folder: Path | None = None) -> str:
    """The innermost line of an author's file that an error went through, as ``(file, line 3)``.

    An author is who wrote neither the harness nor a library. Empty if there is no such line, or,
    if a plugin's `folder` is given, none in there.
    """
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append((error.filename, error.lineno))
    for file, line in reversed(lines):
        path = Path(file)
        inside = folder is None or (path.is_relative_to(folder) and not is_shipped(path))
        others = any(path.is_relative_to(each) for each in (*OWN, *LIBRARIES))
        # Neither "<string>" nor what compiled modules call their sources is an author's.
        if inside and not others and path.is_absolute():
            return f"({shown(file)}, line {line})"
    return ""


def told(error: BaseException) -> str:
    """An error as one clause: its kind, the first line of what it says, the author's line."""
    text = str(error.msg if isinstance(error, SyntaxError) else error)
    first = (text.splitlines() or [""])[0]
    if len(first) > LONGEST:
        first = f"{first[:LONGEST]}…"
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return f"{said} {author_line(error)}".rstrip()


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Turn whatever authors' code in the block raises into an error that begins with `what`."""
    try:
        yield
    except SuiteError:
        raise
    except (Exception, SystemExit) as error:
        raise SuiteError(f"{what} {told(error)}") from error


def method_of(thing: object, name: str) -> str:
    """A method as its author finds it: ``Bowl.loss (bowl.py, line 12)``."""
    cls = type(thing)
    owner = next((each for each in cls.__mro__ if name in vars(each)), cls)
    code = getattr(inspect.unwrap(getattr(owner, name)), "__code__", None)
    place = f" ({shown(code.co_filename)}, line {code.co_firstlineno})" if code else ""
    return f"{cls.__name__}.{name}{place}"


def class_at(cls: type) -> str:
    """A class's file and line: ``bowl.py, line 9``; as far as they are known."""
    module = sys.modules.get(cls.__module__)
    file = shown(str(getattr(module, "__file__", cls.__module__)))
    try:
        return f"{file}, line {inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return file


def refused(thing: object, method: str, what: str) -> SuiteError:
    """The error that complains of what a method of an author's class does."""
    return SuiteError(f"{method_of(thing, method)} {what}")


def shown(file: str) -> str:
    """A file's path from here, if it lies here."""
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
