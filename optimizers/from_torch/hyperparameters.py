"""What a class of `torch.optim.Optimizer` can be given, by the signature of its constructor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from l2l.suite.core.nearest import nearest
from l2l.suite.core.wrapper import Options

# What YAML may put them under, for names that are fields of the suite's.
NESTED = "hyperparameters"
ANY = inspect.Parameter.VAR_KEYWORD


def joined(given: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters, those under `NESTED` with the others; lists as tuples.

    A planned specification has them twice: as they were written, and under `NESTED`.

    Raises:
        ValueError: one is given twice, with different values.
    """
    flat = {name: value for name, value in given.items() if name != NESTED}
    nested = given.get(NESTED, {})
    if not isinstance(nested, Mapping):
        raise ValueError(f"{NESTED} must be a table of names and values, not {nested!r}")
    for name, value in (joined(nested) if nested else {}).items():
        value = tuple(value) if isinstance(value, list) else value
        if flat.setdefault(name, value) != value:
            raise ValueError(f"{name!r} is given twice: omit that in {NESTED!r}, or the other")
    return flat


def names_of(cls: type) -> list[str]:
    """The hyperparameters that the constructor names."""
    return [name for name, each in _signature(cls).items() if each.kind is not ANY]


def check_hyperparameters(cls: type, path: str, given: Mapping[str, Any], rate: str) -> None:
    """That a class, found at `path`, takes what is `given`, and η as `rate`.

    Raises:
        ValueError: it does not, or needs another.
    """
    known = _signature(cls)
    takes_any = any(each.kind is ANY for each in known.values())
    if rate in given:
        raise ValueError(f"{rate!r} is the learning rate: give it as 'lr', or omit it to tune it")
    if rate not in known and not takes_any:
        hint = nearest(rate, known)
        raise ValueError(f"{path} has no hyperparameter {rate!r} for the learning rate: {hint}")
    common = [each.name for each in fields(Options)]
    for name in given:
        if name not in known and not takes_any:
            hint = nearest(name, {*known, *common, "optimizer", "rate", "independent"})
            raise ValueError(f"{path} has no hyperparameter {name!r}: {hint}")
    for name, each in known.items():
        required = each.default is inspect.Parameter.empty and each.kind is not ANY
        if required and name not in given and name != rate:
            raise ValueError(f"{path} needs a hyperparameter {name!r}")


def _signature(cls: type) -> dict[str, inspect.Parameter]:
    """The constructor's parameters after the first, which are those to optimize."""
    found = list(inspect.signature(cls).parameters.items())
    several = inspect.Parameter.VAR_POSITIONAL
    return {name: each for name, each in found[1:] if each.kind is not several}
