"""What there is to choose from: problems, optimizers, claim tests, experiments and others."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from l2l.suite.commands.request import every_experiment
from l2l.suite.core.convert import describe, field_types, is_required
from l2l.suite.core.registry import estimators, optimizers, problems
from l2l.suite.plan.profiles import build, read_experiment
from l2l.suite.report.claims.verdicts import CLAIM_TESTS


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """Everything that has a name, as plain data for `list --json`."""
    experiments = build([read_experiment(path) for path in every_experiment()], "paper", [])
    return {
        "problems": [_entry(name, problems.cls(name)) for name in problems],
        "optimizers": [
            {**_entry(name, optimizers.cls(name)), "tuned": optimizers.cls(name).tuned}
            for name in optimizers
        ],
        "estimators": [_entry(name, estimators.cls(name)) for name in estimators],
        "claim_tests": [_entry(name, CLAIM_TESTS[name]) for name in sorted(CLAIM_TESTS)],
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


def _entry(name: str, cls: Any) -> dict[str, Any]:
    return {
        "name": name,
        "summary": (cls.__doc__ or "").strip().split("\n")[0],
        "fields": _fields(cls),
    }


def _fields(cls: Any) -> dict[str, Any]:
    """The fields that YAML can give, with their defaults; what they take where there is none."""
    kinds = field_types(cls)
    plain = (int, float, str, bool, tuple)
    found: dict[str, Any] = {}
    for entry in dataclasses.fields(cls):
        # JSON has neither infinity nor NaN.
        endless = isinstance(entry.default, float) and not math.isfinite(entry.default)
        if entry.init and (is_required(entry) or endless):
            found[entry.name] = f"({describe(kinds[entry.name])})"
        elif entry.init and isinstance(entry.default, plain):
            found[entry.name] = entry.default
    return found
