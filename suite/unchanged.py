"""Files that problems declare, and whether what a cell was planned with is still what is there."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from suite.blame import blamed, method_of
from suite.digests import definition_digest, file_digest
from suite.errors import DataMissing, SuiteError
from suite.plugins import is_from_plugin
from suite.registry import optimizers, problems
from suite.types import Problem


def declared_files(problem: Problem) -> list[list[str]]:
    """Names and digests of the files that a problem reads; see `Problem.files`.

    Raises:
        DataMissing: one of them is not there.
        SuiteError: one of them cannot be read, or `files` gives something else.
    """
    cls = type(problem)
    method = method_of(problem, "files")
    folder = Path(str(sys.modules[cls.__module__].__file__)).resolve().parent
    with blamed(f"{method} raises"):
        given = problem.files()
        if isinstance(given, str | Path):
            raise SuiteError(f"{method} gives one path: give a list of them")
        paths = [folder / path for path in given]
    try:
        return [[path.name, _digest(path, _version(path.stat()))] for path in paths]
    except FileNotFoundError as error:
        raise DataMissing(f"{method} names {error.filename}, which is not there") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SuiteError(
            f"{method} names {error.filename}, not a readable file: {reason}"
        ) from error


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@functools.cache
def _digest(path: Path, version: tuple[int, ...]) -> str:
    """The digest of a file, which may be large and is asked for by every panel and cell."""
    return file_digest(path)


def check_unchanged(config: Mapping[str, Any]) -> None:
    """That the users' code and files which a cell will use are those that its key says.

    A worker process imports a plugin when it starts, which may be after somebody changed it.

    Raises:
        SuiteError: they changed since the run was planned.
    """
    for entry in _definitions(config):
        is_problem = "notice" in entry
        cls = (problems if is_problem else optimizers).cls(entry["spec"]["name"])
        changed = is_from_plugin(cls) and definition_digest(cls) != entry["code"]
        if "files" in entry:
            changed |= declared_files(problems.make(entry["spec"])) != entry["files"]
        if changed:
            what = f"{'problem' if is_problem else 'optimizer'} {entry['spec']['name']!r}"
            raise SuiteError(f"{what} changed since this run was planned: start it again")


def _definitions(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every problem and optimizer in a configuration, as the planner describes them."""
    if isinstance(config, Mapping):
        if {"spec", "code"} <= set(config):
            yield config
        config = config.values()
    elif not isinstance(config, list):
        return
    for each in config:
        yield from _definitions(each)
