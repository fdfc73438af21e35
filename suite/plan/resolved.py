"""Problems, optimizers, estimators as a cell's configuration has them: all that decides it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from l2l.optimizers.learned.base import Learned
from l2l.suite.core.blame import blamed
from l2l.suite.core.bounds import Spec
from l2l.suite.core.convert import below
from l2l.suite.core.digests import covers, definition_digest
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.plugins import is_from_plugin
from l2l.suite.core.registry import estimators, optimizers, problems
from l2l.suite.core.trees import a
from l2l.suite.core.types import Optimizer
from l2l.suite.core.wrapper import Wrapped, options_in
from l2l.suite.plan.probe import probe_optimizer, probe_problem
from l2l.suite.plan.unchanged import declared_files, fingerprints


def problem_config(spec: Spec, where: str) -> dict[str, Any]:
    """What decides a problem: its fields, its code, and which data it found."""
    problem = problems.make(spec, where)
    try:
        with blamed(f"{type(problem).__name__}.notice raises"):
            notice = problem.notice
            if not isinstance(notice, str):
                raise TypeError(f"it must be a property that gives text, not {a(notice)}")
        files, data = declared_files(problem), fingerprints(problem)
    except SuiteError as error:
        raise type(error)(f"{where}: {error}") from error
    probe_problem(problem, spec, where)
    for each in _problems_in(spec):
        probe_problem(problems.make(each, where), each, where)
    return {
        "spec": _resolved(type(problem), spec),
        "code": definition_digest(type(problem)),
        "notice": notice,
        # Part of the key only where there are some, so that it decides no other problem's.
        **({"files": files} if files else {}),
        **({"data": data} if data else {}),
    }


def optimizer_config(
    spec: Spec, problem: Spec, where: str, steps: int | None = None
) -> dict[str, Any]:
    """What decides an optimizer: its fields and its code; `tuned`, the field that is swept.

    A schedule of its rate lasts `steps` unless the spec says otherwise.
    """
    cls, given = optimizers.options(spec, where, untuned=True)
    if options_in(cls, given).get("schedule") and steps is not None:
        given = {"schedule_steps": steps, **given}
    spec = {**spec, **given}
    tuned = cls.tuned if cls.tuned not in given else None
    # Made once here, so that a value which the class refuses is found before the work starts.
    made = optimizers.make({**spec, **({tuned: 0.5} if tuned else {})}, where)
    rate = given.get(str(cls.tuned))
    if isinstance(rate, int | float) and rate <= 0:
        raise SuiteError(f"{below(where, cls.tuned)} is {rate:g}, but must be a number above 0")
    probe_optimizer(cls, given, spec, problem, where)
    config: dict[str, Any]
    config = {"spec": _resolved(cls, spec), "tuned": tuned, "code": definition_digest(cls)}
    versions = fingerprints(made)
    if versions:
        config["data"] = versions
    if options_in(cls, given):
        # Part of the key only where it wraps, so that it decides no other optimizer's.
        config["wrapper"] = definition_digest(Wrapped)
    if inner := list(_inner(cls, given)):
        # Likewise only where there are some.
        config["inner"] = inner
    return config


def teacher_config(spec: Spec, problem: Spec, where: str, steps: int) -> dict[str, Any]:
    """What decides an optimizer that another one is to imitate over runs of `steps`.

    Raises:
        SuiteError: it cannot be used as it is: it has no rate or no weights, or needs earlier runs.
    """
    config = optimizer_config(spec, problem, where, steps)
    name, tuned = spec["name"], config["tuned"]
    if tuned is not None:
        raise SuiteError(f"{where}: {name!r} needs its rate: add {tuned}, such as {tuned}: 0.01")
    if lacks_weights(config):
        raise SuiteError(f"{where}: {name!r} has no weights, name one that needs no training")
    if optimizers.make(config["spec"], where).earlier_runs:
        raise SuiteError(f"{where}.earlier_runs: imitated runs have none before them: omit it")
    return config


def optimizer_at(config: Mapping[str, Any], rate: float) -> Optimizer:
    """The optimizer of a configuration, at this rate if it is one that is tuned."""
    tuned = {config["tuned"]: rate} if config["tuned"] else {}
    made: Optimizer = optimizers.make({**config["spec"], **tuned})
    return made


def lacks_weights(config: Mapping[str, Any]) -> bool:
    """Whether the optimizer of a configuration is a learned one that is still to be trained."""
    made = optimizer_at(config, 1.0)
    return isinstance(made, Learned) and made.weights is None


def estimator_config(spec: Spec, where: str) -> dict[str, Any]:
    """What decides an estimator: its fields, and the code of one that a plugin defines.

    The suite's own are part of the harness, whose numbers `RESULTS_VERSION` stands for.
    """
    cls = type(estimators.make(spec, where))
    config: dict[str, Any] = {"spec": _resolved(cls, spec), "kind": estimators.kind}
    if is_from_plugin(cls):
        config["code"] = definition_digest(cls)
    return config


def _problems_in(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The problems in another one's fields."""
    for each in spec.values():
        if isinstance(each, Mapping) and each.get("name") in problems.names():
            yield {**each}
            yield from _problems_in(each)


def _inner(outer: type, value: Any) -> Iterator[dict[str, Any]]:
    """What decides the optimizers in another one's fields, where its own code does not say it.

    So it is with groups of `routed` that a plugin defines.
    """
    if isinstance(value, Mapping):
        name = value.get("name")
        if isinstance(name, str) and name in optimizers:
            cls = optimizers.cls(name)
            if not covers(outer, cls):
                yield {"spec": value, "code": definition_digest(cls)}
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for each in value:
        yield from _inner(outer, each)


def _resolved(cls: type, spec: Spec) -> dict[str, Any]:
    """The spec with the defaults of the fields that it leaves out, as far as JSON has them."""
    defaults = {
        entry.name: entry.default
        for entry in dataclasses.fields(cls)
        if entry.init and isinstance(entry.default, int | float | str | bool)
    }
    # Infinity and NaN are not among them; the digest of the code covers these.
    finite = {n: x for n, x in defaults.items() if isinstance(x, str) or math.isfinite(x)}
    return {**finite, **spec}
