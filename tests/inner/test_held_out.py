"""Held-out losses: recorded at some steps, kept with the cell, and told in final.csv."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import l2l.suite.inner.held_out
from l2l import Problem, Rng, Tensors
from l2l.suite.commands.publish import publish_again
from l2l.suite.core.abilities import has
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers, problems
from l2l.suite.files.places import CURVES, HELD_OUT
from l2l.suite.inner.evaluate import evaluate
from l2l.suite.inner.held_out import HeldOutLog
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import start
from l2l.suite.plan.cells import Cell
from l2l.suite.plan.plan import Plan, make_plan
from l2l.suite.plan.probe_problem import check_problem
from l2l.suite.plan.profiles import build, read_experiment
from l2l.suite.report.collect import collect_tables, experiment_infos
from l2l.suite.report.curves import curves_by_optimizer
from l2l.suite.report.final import COLUMNS, final_losses
from l2l.suite.report.results import Results, load_results, store_results
from l2l.suite.report.scores.losses import scores_by_run
from l2l.suite.run.folder import open_results
from l2l.suite.run.store import run_cell

STEPS = 20


@dataclass(frozen=True)
class Noisy(Problem):
    """(θ − y − noise)² in minibatches, and (θ − y − 1)² on what is held out, y by instance."""

    edge: float = 1e9

    def init(self, rng: Rng) -> Tensors:
        return {"theta": 4 + rng.uniform(1)}

    def instance(self, rng: Rng) -> Tensors:
        return {"y": rng.uniform(1)}

    def batch(self, rng: Rng) -> Tensor:
        return 0.1 * rng.normal(1)

    def held_out(self, rng: Rng) -> Tensor:
        # The draws of `instance` again: y itself moves with it.
        return torch.ones(1) + rng.uniform(1)

    def loss(self, params: Tensors, instance: Tensors, batch: Tensor) -> Tensor:
        distance = (params["theta"] - instance["y"] - batch).square().sum()
        return torch.where(params["theta"].abs().max() > self.edge, torch.inf, distance)


class OwnBatch(Noisy):
    def batch(self, rng: Rng) -> Tensor:
        return 0.2 * rng.normal(1)


def sgd(rate: float = 0.1) -> Any:
    return optimizers.make({"name": "sgd", "lr": rate})


def watched(problem: Problem, rate: float = 0.1) -> tuple[Tensor, Tensor]:
    """Losses and held-out losses of four runs."""
    log, kept = HeldOutLog(STEPS), []

    def keep(name: str, make: Any) -> Tensor:
        losses: Tensor = make()
        kept.append(log.losses())
        return losses

    losses = evaluate(problem, sgd(rate), STEPS, 4, seed=0, watch=[log], keep=keep)
    return losses, torch.cat(kept)


def test_ability_is_declared_and_not_inherited_by_other_minibatches() -> None:
    assert has(Noisy(), "held_out")
    assert not has(Problem(), "held_out")
    assert not has(OwnBatch(), "held_out"), "its minibatches may have what was held out"
    assert not has(problems.make({"name": "mlp"}), "held_out")


class Other(Noisy):
    """Its held-out data are of another kind than its minibatches."""

    def held_out(self, rng: Rng) -> Any:
        return "text"


class Unseeded(Noisy):
    def held_out(self, rng: Rng) -> Tensor:
        return torch.rand(1)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (Other(), r"with what held_out\(\) gives instead of a batch, Other.loss .* raises"),
        (Unseeded(), r"Unseeded.held_out .* gives another value"),
    ],
)
def test_mistakes_are_told_before_any_work(problem: Problem, message: str) -> None:
    check_problem(Noisy())
    with pytest.raises(SuiteError, match=message):
        check_problem(problem)


def test_it_is_the_loss_at_the_iterate_on_held_out_data() -> None:
    objective = Objective(Noisy(), range(3), "test", 5, copies=2)
    theta = objective.start() + torch.arange(6.0).unsqueeze(1)
    found = objective.held_out(theta)
    for row in range(6):
        y = Rng(5, "test/instance", row % 3).uniform(1)
        # The data have y, drawn again, so the minimum is at 2y + 1.
        expected = (theta[row] - 2 * y - 1).square().item()
        assert found[row].item() == pytest.approx(expected, rel=1e-5)


def test_groups_of_runs_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, held_out = watched(Noisy())
    assert held_out.shape == (4, 11)
    assert torch.equal(losses, evaluate(Noisy(), sgd(), STEPS, 4, seed=0))
    monkeypatch.setattr("l2l.suite.inner.evaluate.runs_at_once", lambda *_: 3)
    assert torch.equal(watched(Noisy())[1], held_out)


def test_steps_are_tenths_of_a_run_with_both_ends() -> None:
    assert HeldOutLog(20).steps == list(range(0, 21, 2))
    assert HeldOutLog(3).steps == [0, 1, 2, 3]


def test_diverged_runs_have_infinite_losses() -> None:
    losses, held_out = watched(Noisy(edge=6), rate=1.5)
    assert losses[:, -1].isinf().all()
    assert held_out[:, 0].isfinite().all()
    assert held_out[:, -1].isinf().all()


def test_a_diverged_run_is_told_so_where_its_held_out_loss_is_finite() -> None:
    objective, log = Objective(Noisy(), range(2), "test", 0), HeldOutLog(STEPS)
    point = start(objective, sgd())
    log(objective, replace(point, alive=torch.tensor([True, False])))
    assert log.losses().isinf().tolist() == [[False], [True]]


WINE = {"name": "dense", "dataset": "wine", "layers": 0}
FILE = """
title: Apart
seed: 1
sizes: {test_instances: 3, tuning_instances: 2}
training:
  own:
    problem: {name: dense, dataset: wine, layers: 0, batch_size: 64}
    optimizer: &lstm {name: lstm, hidden: 2}
    phases: &phases [{runs: 1, horizon: 4, estimator: {name: truncated, window: 2}, rate: 0.01}]
    validate_every: 1
    validation_instances: 1
  other:
    problem: {name: quadratic}
    optimizer: *lstm
    phases: *phases
    validate_every: 1
    validation_instances: 1
panels:
  wine:
    title: Wine
    problem: {name: dense, dataset: wine, layers: 0}
    steps: 12
    optimizers: {SGD: {name: sgd, lr: 0.1}, Own: {trained: own}, Other: {trained: other}}
  quadratics:
    title: Quadratics
    problem: {name: quadratic}
    steps: 12
    optimizers: {SGD: {name: sgd, lr: 0.001}}
"""


def planned(folder: Path, *settings: str) -> Plan:
    path = folder / "apart.yaml"
    path.write_text(FILE)
    return make_plan(build([read_experiment(path)], "quick", list(settings)))


def evaluation(plan: Plan, panel: str) -> Cell:
    (cell,) = (c.cell for c in plan.curves if (c.panel, c.optimizer) == (panel, "SGD"))
    return cell


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    open_results(root)
    return root


def test_cells_keep_them_where_there_are_some(root: Path) -> None:
    plan = planned(root.parent)
    for panel, kept in (("wine", True), ("quadratics", False)):
        cell = evaluation(plan, panel)
        assert run_cell(cell, root, "cpu").error == ""
        assert (cell.folder(root) / HELD_OUT).exists() == kept
        columns = list(pd.read_parquet(cell.folder(root) / CURVES))
        assert columns == ["learning_rate", "instance", "step", "loss"]
    table = pd.read_parquet(evaluation(plan, "wine").folder(root) / HELD_OUT)
    assert list(table) == ["instance", "step", "loss"]
    assert table["instance"].tolist() == np.repeat(range(3), 11).tolist()
    objective = Objective(problems.make(WINE), range(3), "test", 1)
    expected = objective.held_out(objective.start())
    assert table[table["step"] == 0]["loss"].tolist() == pytest.approx(expected.tolist())


def test_interrupted_evaluation_goes_on_with_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = evaluation(planned(root.parent), "wine")
    folder = cell.folder(root)
    assert run_cell(cell, root, "cpu").error == ""
    expected = [(folder / name).read_bytes() for name in (CURVES, HELD_OUT)]
    (folder / "cell.json").write_text("damaged")
    monkeypatch.setattr("l2l.suite.inner.evaluate.runs_at_once", lambda *_: 1)

    class Interrupted(l2l.suite.inner.held_out.HeldOutLog):
        def __call__(self, objective: Objective, point: Any) -> None:
            super().__call__(objective, point)
            if objective.instances == [2] and point.step == 7:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(l2l.suite.inner.held_out, "HeldOutLog", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_cell(cell, root, "cpu")
    assert not (folder / HELD_OUT).exists()
    seen: list[list[int]] = []
    first = Objective.start
    monkeypatch.setattr(
        Objective, "start", lambda self: (seen.append(self.instances), first(self))[1]
    )
    assert run_cell(cell, root, "cpu").error == ""
    assert [2] in seen
    assert [0] not in seen, "what is done is not done again"
    assert [(folder / name).read_bytes() for name in (CURVES, HELD_OUT)] == expected


@pytest.mark.usefixtures("undrawn")
def test_final_csv_tells_them_where_there_are_some(root: Path) -> None:
    plan = planned(root.parent)
    for panel in ("wine", "quadratics"):
        run_cell(evaluation(plan, panel), root, "cpu")
    infos = experiment_infos(plan, "quick")
    tables = collect_tables(plan, root, infos)
    known = curves_by_optimizer(tables.curves), scores_by_run(tables.scores)
    final = final_losses(infos, *known).set_index("panel")
    table = pd.read_parquet(evaluation(plan, "wine").folder(root) / HELD_OUT)
    expected = table[table["step"] == 12]["loss"].mean()
    assert final.loc["wine", "held_out"] == pytest.approx(expected, rel=1e-6)
    assert final.loc["wine", "held_out_low"] < expected < final.loc["wine", "held_out_high"]
    assert np.isnan(final.loc["quadratics", "held_out"])
    store_results(root, Results(tuple(infos), tables, {"commit": None}))
    report = publish_again(root)
    assert "Held-out loss" in report.html.read_text()
    assert "mean loss on held-out data" in report.markdown.read_text()
    curve = pd.read_parquet(root / HELD_OUT).set_index("step")
    assert set(zip(curve["panel"], curve["optimizer"], strict=True)) == {("wine", "SGD")}
    means = table.groupby("step")["loss"].mean()
    # Curves are rounded to 16 significant bits.
    assert curve["mean"].to_dict() == pytest.approx(means.to_dict(), rel=2**-16)
    assert set(curve["n"]) == {3}
    assert (curve["low"] <= curve["mean"]).all()
    assert (curve["mean"] <= curve["high"]).all()
    kept = load_results(root)
    store_results(root, kept.without(["apart"]))
    assert not (root / HELD_OUT).exists(), "no experiment has any"
    without = {key: value for key, value in known[1].items() if key[3] != "held-out loss"}
    assert list(final_losses(infos, known[0], without)) == COLUMNS


def test_learned_optimizers_are_told_in_or_out_of_their_distribution(tmp_path: Path) -> None:
    (info,) = experiment_infos(planned(tmp_path), "quick")
    assert [panel.in_distribution for panel in info.panels] == [("Own",), ()]
    (info,) = experiment_infos(planned(tmp_path, "panels.wine.problem.layers=1"), "quick")
    assert info.panels[0].in_distribution == ()
    split = "panels.wine.tuning_problem={name: dense, dataset: wine, layers: 0}"
    plan = planned(tmp_path, "panels.wine.problem.batch_size=32", split)
    assert experiment_infos(plan, "quick")[0].panels[0].in_distribution == ("Own",)
