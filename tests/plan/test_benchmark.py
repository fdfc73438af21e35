"""The benchmark's plan: any optimizer on every problem, with equal budgets, from one file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from l2l.suite.commands.request import find_experiments
from l2l.suite.plan.config import Experiment
from l2l.suite.plan.plan import Plan, make_plan
from l2l.suite.plan.probe import untried
from l2l.suite.plan.profiles import build, read_experiment
from l2l.suite.report.collect import experiment_infos


def benchmark(profile: str) -> Experiment:
    (path,) = find_experiments(["benchmark"])
    return build([read_experiment(path)], profile, [])[0]


@cache
def plan(profile: str = "small") -> Plan:
    with untried():
        return make_plan([benchmark(profile)])


def test_every_optimizer_is_on_every_problem() -> None:
    panels = benchmark("small").panels
    assert len(panels) >= 10
    (optimizers,) = {tuple(panel.optimizers) for panel in panels.values()}
    assert len(optimizers) >= 14
    learned = [name for name, spec in panels["mnist"].optimizers.items() if "trained" in spec]
    assert len(learned) >= 4


@pytest.mark.parametrize("profile", ["small", "paper"])
def test_optimizers_of_a_panel_have_equal_budgets(profile: str) -> None:
    for name, panel in plan(profile).experiments[0].panels.items():
        own = [curve for curve in plan(profile).curves if curve.panel == name]
        cells = [curve.cell for curve in own if curve.optimizer in panel.optimizers]
        tuned = [cell.inputs[0] for cell in cells if cell.inputs]
        trained = [label for label, spec in panel.optimizers.items() if "trained" in spec]
        assert len(tuned) == len(cells) - len(trained), "all but those without a rate"
        for group in (cells, tuned):
            assert len({(each.config["steps"], each.config["instances"]) for each in group}) == 1
        assert cells[0].config["instances"] >= 20
        assert cells[0].config["steps"] == tuned[0].config["steps"]


def test_panels_know_who_was_trained_on_them() -> None:
    (info,) = experiment_infos(plan(), "small")
    known = {panel.name: panel.in_distribution for panel in info.panels if panel.in_distribution}
    of_mnist = ("LSTM of MNIST", "RNNProp", "small_fc_lopt", "Celo2-base, cosine")
    assert known == {"mnist": of_mnist, "quadratics": ("LSTM of quadratics",)}
    assert all(
        panel.learned == (*of_mnist[:1], "LSTM of quadratics", *of_mnist[1:])
        for panel in info.panels
    )


def test_all_that_a_training_saw_is_in_distribution(tmp_path: Path) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text("""
title: Mixed
sizes: {test_instances: 2, tuning_instances: 2}
training:
  t:
    problem: {name: mlp, layers: 2}
    optimizer: {name: scaled-lstm, preprocessing: log, output_scale: 0.1, input_scale: 4}
    start: mnist-from-scratch
    phases: [{runs: 2, horizon: 4, estimator: {name: truncated, window: 2}, rate: 0.01,
              also: [{name: mlp, layers: 3}]}]
panels:
  own:
    title: Own
    problem: {name: mlp, layers: 2}
    steps: 4
    optimizers: &all {LSTM: {trained: t}}
  also: {title: Also, problem: {name: mlp, layers: 3}, steps: 4, optimizers: *all}
  start: {title: Start, problem: {name: mlp}, steps: 4, optimizers: *all}
  other: {title: Other, problem: {name: mlp, layers: 4}, steps: 4, optimizers: *all}
""")
    made = make_plan(build([read_experiment(path)], "paper", []))
    (info,) = experiment_infos(made, "paper")
    assert [panel.name for panel in info.panels if panel.in_distribution] == [
        "own",
        "also",
        "start",
    ]


def test_smaller_profiles_name_every_panel() -> None:
    """One that a profile forgets would run in full."""
    full = benchmark("paper").panels
    for profile, most in (("smoke", 4), ("quick", 25), ("small", 500)):
        panels = benchmark(profile).panels
        assert max(panel.steps for panel in panels.values()) == most
        assert list(panels) == list(full)
