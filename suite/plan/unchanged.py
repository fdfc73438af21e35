"""What problems read, and whether what a cell was planned with is still what is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from l2l.suite.core.blame import blamed, method_of
from l2l.suite.core.digests import current_digest, definition_digest
from l2l.suite.core.errors import DataMissing, SuiteError
from l2l.suite.core.registry import REGISTRIES, optimizers, problems
from l2l.suite.core.types import Optimizer, Problem


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
            raise SuiteError(f"{method} returns one path, but must return a list of paths")
        paths = [folder / path for path in given]
    try:
        return [[path.name, current_digest(path)] for path in paths]
    except FileNotFoundError as error:
        raise DataMissing(f"{method} names {error.filename}, which is not there") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SuiteError(
            f"{method} names {error.filename}, which cannot be read: {reason}"
        ) from error


def fingerprints(thing: Problem | Optimizer) -> dict[str, str]:
    """What a problem or an optimizer depends on besides, by name; see their `fingerprints`.

    Raises:
        SuiteError: the data cannot be read, or `fingerprints` gives something else.
    """
    method = method_of(thing, "fingerprints")
    with blamed(f"{method} raises"):
        given: Any = thing.fingerprints()
    if not isinstance(given, Mapping) or not all(
        isinstance(each, str) for entry in given.items() for each in entry
    ):
        raise SuiteError(f"{method} must return a dict of texts: digests by the data's names")
    return dict(given)


def check_unchanged(config: Mapping[str, Any]) -> None:
    """That the code, files and data which a cell will use are those that its key says.

    A worker process imports code when it starts, which may be after somebody changed it, and a
    machine of a cluster may have other code and other data.

    Raises:
        SuiteError: they changed since the run was planned, or are others here.
    """
    by_kind = {registry.kind: registry for registry in REGISTRIES}
    for entry in _definitions(config):
        is_problem = "notice" in entry
        # Only what came later says its registry: it would be part of the others' keys.
        registry = by_kind[entry.get("kind", (problems if is_problem else optimizers).kind)]
        name = entry["spec"]["name"]
        cls = registry.cls(name)
        changed = definition_digest(cls) != entry["code"]
        if is_problem:
            problem = problems.make(entry["spec"])
            changed |= declared_files(problem) != entry.get("files", [])
        if changed:
            what = f"{registry.kind} {name!r}"
            raise SuiteError(f"{what} changed since this run was planned: start it again")
        if is_problem:
            _check_data(problem, entry)
        elif "data" in entry:
            _check_versions(name, entry)


def _check_versions(name: str, entry: Mapping[str, Any]) -> None:
    rate = {entry["tuned"]: 1.0} if entry["tuned"] else {}
    found = fingerprints(optimizers.make({**entry["spec"], **rate}))
    if found != entry["data"]:
        versions = (
            ", ".join(f"{key} {value}" for key, value in sorted(each.items()))
            for each in (found, entry["data"])
        )
        raise SuiteError(
            f"optimizer {name!r} comes from {' here, but from '.join(versions)} where the run was "
            "planned: give this machine the same, or start the run again"
        )


def _check_data(problem: Problem, entry: Mapping[str, Any]) -> None:
    name, planned = entry["spec"]["name"], entry["notice"]
    if problem.notice != planned:
        raise SuiteError(
            f"the data of problem {name!r} is {_told(problem.notice)} here, but "
            f"{_told(planned)} where the run was planned: give this machine the same data"
        )
    found, planned = fingerprints(problem), entry.get("data", {})
    others = sorted(key for key in found | planned if found.get(key) != planned.get(key))
    if others:
        raise SuiteError(
            f"the data of problem {name!r} ({', '.join(others)}) is not what this run was planned "
            "with: give this machine the same data, or start the run again if the data changed"
        )


def _told(notice: str) -> str:
    return f"{notice!r}" if notice else "complete"


def _definitions(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every problem, optimizer and estimator in a configuration, as the planner describes them."""
    if isinstance(config, Mapping):
        if {"spec", "code"} <= set(config):
            yield config
        config = config.values()
    elif not isinstance(config, list):
        return
    for each in config:
        yield from _definitions(each)
