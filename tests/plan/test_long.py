"""Longer runs of an optimizer, and what a panel's rows have in common, as they are planned."""

from __future__ import annotations

from typing import Any

import pytest

from l2l.suite.core.convert import fill
from l2l.suite.plan.config import Experiment
from l2l.suite.plan.plan import Plan, make_plan
from l2l.suite.report.collect import experiment_infos


def planned(**panel: Any) -> Plan:
    content = {
        "title": "Quadratics",
        "problem": {"name": "quadratic", "dim": 3},
        "steps": 10,
        "optimizers": {"ADAM": {"name": "adam"}, "Slow": {"name": "sgd", "lr": 0.01}},
        **panel,
    }
    raw = {
        "name": "e",
        "title": "E",
        "sizes": {"test_instances": 4, "tuning_instances": 2},
        "panels": {"p": content},
        "benchmark": True,
    }
    return make_plan([fill(Experiment, raw, "e.yaml")])


def test_longer_runs_are_tuned_for_their_length() -> None:
    plan = planned(long={"ADAM": 5}, tuning_steps=8)
    cells = {curve.optimizer: curve.cell for curve in plan.curves}
    assert list(cells) == ["ADAM", "Slow", "ADAM, long"]
    long, short = cells["ADAM, long"], cells["ADAM"]
    assert (long.config["steps"], short.config["steps"]) == (50, 10)
    assert (long.inputs[0].config["steps"], short.inputs[0].config["steps"]) == (40, 8)
    for key in ("problem", "instances", "seed"):
        assert long.config[key] == short.config[key]
    (panel,) = experiment_infos(plan, "quick")[0].panels
    assert panel.optimizers == ("ADAM", "Slow")
    assert panel.long == {"ADAM": 50}


@pytest.mark.parametrize(
    ("panel", "said"),
    [
        ({"long": {"ADMA": 5}}, "long: no optimizer 'ADMA' here: did you mean 'ADAM'"),
        (
            {
                "long": {"ADAM": 5},
                "optimizers": {"ADAM": {"name": "adam"}, "ADAM, long": {"name": "sgd"}},
            },
            "'ADAM, long' is that of the long runs of 'ADAM'",
        ),
    ],
)
def test_mistakes_are_told(panel: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        planned(**panel)


def test_setup_says_what_decides_a_comparison() -> None:
    def setup(**panel: Any) -> dict[str, int | str]:
        return dict(experiment_infos(planned(**panel), "quick")[0].panels[0].setup)

    own = setup()
    assert '"dim": 3' in str(own["problem"])
    assert (own["updates"], own["test instances"], own["tuning instances"]) == (10, 4, 2)
    changes: list[dict[str, Any]] = [
        {"steps": 11},
        {"tuning_steps": 5},
        {"test_instances": 5},
        {"tuning_instances": 3},
        {"problem": {"name": "quadratic", "dim": 4}},
    ]
    for change in changes:
        assert setup(**change) != own
    assert setup(optimizers={"ADAM": {"name": "adam"}, "NAG": {"name": "nag"}}) == own
    assert setup(long={"ADAM": 3}) == own
