"""What there is to choose from: problems, optimizers, estimators, experiments, claims."""

from __future__ import annotations

import dataclasses
from typing import Any

from l2l.suite.commands.request import every_experiment
from l2l.suite.core.convert import describe, field_types, is_required
from l2l.suite.core.registry import Registry, estimators, optimizers, problems
from l2l.suite.plan.profiles import build, read_experiment


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """Everything that has a name, as plain data for `list --json`."""
    experiments = build([read_experiment(path) for path in every_experiment()], "paper", [])
    return {
        "problems": [_entry(problems, name) for name in problems],
        "optimizers": [_entry(optimizers, name) for name in optimizers],
        "estimators": [_entry(estimators, name) for name in estimators],
        "experiments": [
            {"name": each.name, "title": each.title, "source": each.source} for each in experiments
        ],
        "claims": [
            {
                "id": id_,
                "kind": claim.kind,
                "experiment": each.name,
                "text": claim.text,
                "test": claim.test,
            }
            for each in experiments
            for id_, claim in each.claims.items()
        ],
    }


def _entry(registry: Registry[Any], name: str) -> dict[str, Any]:
    cls = registry.cls(name)
    entry = {
        "name": name,
        "summary": (cls.__doc__ or "").strip().split("\n")[0],
        "fields": _fields(cls),
    }
    if registry is optimizers:
        entry["tuned"] = cls.tuned
    return entry


def _fields(cls: Any) -> dict[str, Any]:
    """The fields that YAML can give, with their defaults; what they take where there is none."""
    kinds = field_types(cls)
    plain = int | float | str | bool
    return {
        entry.name: f"({describe(kinds[entry.name])})" if is_required(entry) else entry.default
        for entry in dataclasses.fields(cls)
        if entry.init and (is_required(entry) or isinstance(entry.default, plain))
    }
