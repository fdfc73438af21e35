"""Every problem and optimizer of a plan, tried once: what they give must be what runs rely on.

A mistake that a run would not notice, such as randomness that is not the `rng`'s, ends in numbers
that look like results. It is found here, in a second, and told with the author's method and line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from l2l.suite.core.blame import blamed
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import problems
from l2l.suite.core.types import Optimizer, ParamSpec, Problem
from l2l.suite.core.wrapper import options_in
from l2l.suite.inner.process import one_thread_beside_the_kernel
from l2l.suite.plan.probe_optimizer import check_optimizer, reduced
from l2l.suite.plan.probe_problem import check_problem

# What passed, by class, specification and, for optimizers, parameters.
_layouts: dict[tuple[Any, ...], ParamSpec] = {}
_passed: set[tuple[Any, ...]] = set()
_probing: ContextVar[bool] = ContextVar("_probing", default=True)


@contextmanager
def untried() -> Iterator[None]:
    """Within the block nothing is tried, for plans of which nothing will be run."""
    token = _probing.set(False)
    try:
        yield
    finally:
        _probing.reset(token)


def probe_problem(problem: Problem, spec: Mapping[str, Any], where: str) -> None:
    """Try a problem, unless an equal one was.

    Raises:
        SuiteError: it has a mistake.
    """
    if _probing.get():
        _layout(problem, spec, where)


def _layout(problem: Problem, spec: Mapping[str, Any], where: str) -> ParamSpec:
    """The layout of the parameters of a problem, which is tried for it."""
    key = (type(problem), _text(spec))
    if key not in _layouts:
        try:
            with one_thread_beside_the_kernel(), blamed("trying it raises"):
                _layouts[key] = check_problem(problem)
        except SuiteError as error:
            raise type(error)(f"{where}: problem {spec['name']!r}: {error}") from error
    return _layouts[key]


def probe_optimizer(
    cls: type[Optimizer],
    arguments: Mapping[str, Any],
    spec: Mapping[str, Any],
    problem: Mapping[str, Any],
    where: str,
) -> None:
    """Try an optimizer, unless an equal one was.

    Args:
        cls: its class.
        arguments: of the class; without the field that is swept, if one is.
        spec: name and fields, as in the experiment.
        problem: name and fields of the one whose parameters it will move.
        where: the place to name in errors.

    Raises:
        SuiteError: it has a mistake.
    """
    if not _probing.get():
        return
    layout = _layout(problems.make(problem, where), problem, where)
    small = reduced(layout)
    key = (cls, _text(spec), _text([list(small.shapes.items()), list(small.groups.items())]))
    if key in _passed:
        return
    try:
        with one_thread_beside_the_kernel():
            _check(cls, arguments, small, layout)
    except SuiteError as error:
        raise type(error)(f"{where}: optimizer {spec['name']!r}: {error}") from error
    _passed.add(key)


def _check(
    cls: type[Optimizer], arguments: Mapping[str, Any], small: ParamSpec, layout: ParamSpec
) -> None:
    """Try an optimizer on few parameters; if it fails there, on as many as it is made for."""
    wrapping = options_in(cls, arguments)
    if wrapping:
        # By itself first, so that its own mistakes are told as such.
        own = {name: value for name, value in arguments.items() if name not in wrapping}
        _check(cls, own, small, layout)
    try:
        check_optimizer(cls, arguments, small)
    except SuiteError:
        if small == layout:
            raise
        check_optimizer(cls, arguments, layout)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)
