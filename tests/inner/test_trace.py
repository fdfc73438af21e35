"""Traces: what others would have done at the same points, and what one gradient does to updates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from l2l.optimizers.hand_designed.adam import Adam
from l2l.optimizers.hand_designed.nag import NAG
from l2l.optimizers.hand_designed.sgd import SGD
from l2l.optimizers.learned.gac import LSTMGAC
from l2l.optimizers.learned.lstm import LSTM
from l2l.optimizers.learned.routed import Routed
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Optimizer, Params, ParamSpec
from l2l.suite.core.wrapper import Options, Wrapped
from l2l.suite.inner.loop import descend, walk
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import start
from l2l.suite.inner.trace import choose, impulses, replay, trace, updates_at
from l2l.suite.inner.trace_settings import Trace
from l2l.suite.inner.trace_tables import COLUMNS, load_traces
from l2l.suite.plan.cells import Cell
from l2l.suite.plan.plan import make_plan
from l2l.suite.plan.profiles import build, read_experiment
from l2l.suite.report.collect import collect_tables, experiment_infos
from l2l.suite.report.result_tables import join_tables, save_tables
from l2l.suite.run.folder import open_results
from l2l.suite.run.records import state_of
from l2l.suite.run.store import run_cell

SETTINGS = Trace(along="LSTM", coordinates=3, probed=2, response_steps=4, points=21, lags=3)
SPEC = ParamSpec({"w": torch.Size([4]), "b": torch.Size([2])}, {"w": "conv", "b": "fc"})
STEPS = 9


def weighted(optimizer: Any) -> Any:
    return optimizer.with_weights(Rng(1, "phi").normal(optimizer.layout.size) / 3)


def lstm() -> Any:
    return weighted(LSTM(hidden=4))


@dataclass(frozen=True)
class Clipped(Optimizer):
    """Momentum on gradients that are cut to norm 1, so that coordinates meet."""

    lr: float = 0.1

    def init(self, spec: ParamSpec, n: int) -> Tensor:
        return torch.zeros(n, spec.size)

    def update(self, grads: Tensor, state: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        norm = grads.norm(dim=1, keepdim=True)
        state = 0.5 * state - self.lr * grads / norm.clamp(min=1.0)
        return state, state


# Where nobody looks.
PARAMS = Params(torch.full((STEPS, SPEC.size), torch.nan), SPEC)


def gradients() -> Tensor:
    return Rng(2, "gradients").normal(STEPS, SPEC.size)


def updates(table: pd.DataFrame, optimizer: str, instance: int) -> Tensor:
    """Updates [T, C] of a table of traces."""
    own = table[(table["optimizer"] == optimizer) & (table["instance"] == instance)]
    return torch.tensor(own["update"].to_numpy()).view(SETTINGS.coordinates, -1).T


def test_counterfactual_updates_are_those_of_the_optimizer_alone_on_the_gradients_met() -> None:
    optimizers = {"LSTM": lstm(), "ADAM": Adam(0.1), "SGD": SGD(0.2)}
    found = trace(Quadratic(), optimizers, SETTINGS, STEPS, 2, seed=5)
    for instance in range(2):
        objective = Objective(Quadratic(), [instance], "test", 5)
        points = walk(objective, lstm(), start(objective, lstm()), STEPS, whole=True)
        grads = torch.cat([point.grads for point in points[:STEPS]])
        chosen = choose(grads, SETTINGS, 5, instance)
        for label, optimizer in optimizers.items():
            params = Params(torch.cat([point.theta for point in points[:STEPS]]), points[0].spec)
            alone = replay(optimizer, params, grads)[:, chosen]
            torch.testing.assert_close(updates(found.traces, label, instance), alone)
        # The trajectory's own updates are those that led from one point to the next.
        moves = torch.cat([b.theta - a.theta for a, b in pairwise(points)])
        own = updates(found.traces, "LSTM", instance)
        torch.testing.assert_close(own, moves[:, chosen], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("optimizer", [lstm(), Adam(0.1), SGD(0.1), NAG(0.1), Clipped()], ids=repr)
def test_response_at_the_gradient_met_is_the_update_made(optimizer: Any) -> None:
    grads, chosen = 3 * gradients(), torch.tensor([4, 0])
    met = grads[:, chosen].unsqueeze(2)
    alone = not isinstance(optimizer, Clipped)
    values = torch.cat([met - 1, met, met + 1], dim=2)
    found = updates_at(optimizer, PARAMS, grads, chosen, values, alone, asked_only=True)
    expected = replay(optimizer, PARAMS, grads)[:, chosen]
    torch.testing.assert_close(found[:, :, 1], expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found[:, :, 0], found[:, :, 2])


def test_alone_and_in_company_agree_where_coordinates_do_not_meet() -> None:
    grads, chosen = gradients(), torch.tensor([5, 1])
    values = grads[:, chosen].unsqueeze(2) * torch.tensor([1.0, -1.0, 2.0])
    groups = {"conv": {"name": "lstm", "hidden": 3}, "fc": {"name": "lstm", "hidden": 3}}
    for optimizer in (lstm(), Adam(0.1), weighted(Routed(groups=groups))):
        for asked_only in (False, True):
            given = (optimizer, PARAMS, grads, chosen, values)
            torch.testing.assert_close(
                updates_at(*given, alone=True, asked_only=asked_only),
                updates_at(*given, alone=False, asked_only=asked_only),
                rtol=1e-4,
                atol=1e-6,
            )


def test_a_group_of_which_nothing_is_chosen_is_no_hindrance() -> None:
    groups = {"conv": {"name": "lstm", "hidden": 3}, "fc": {"name": "lstm", "hidden": 3}}
    routed, grads, chosen = weighted(Routed(groups=groups)), gradients(), torch.tensor([5])
    found = updates_at(routed, PARAMS, grads, chosen, grads[:, chosen].unsqueeze(2), alone=True)
    torch.testing.assert_close(found[..., 0], replay(routed, PARAMS, grads)[:, chosen])


# Above the norm of every gradient that is met, but not of all that is asked about in one row.
UNUSED_CLIPPING = Wrapped(SGD(0.1), Options(clip_norm=22.0))


@pytest.mark.parametrize(
    "optimizer", [Clipped(), UNUSED_CLIPPING, weighted(LSTMGAC(hidden=4, gacs=2))], ids=repr
)
def test_coordinates_that_meet_are_probed_in_company(optimizer: Any) -> None:
    optimizers = {"LSTM": lstm(), "mixing": optimizer}
    found = trace(Quadratic(), optimizers, SETTINGS, STEPS, 1, seed=5)
    objective = Objective(Quadratic(), [0], "test", 5)
    grads = torch.cat([point.grads for point in descend(objective, lstm(), STEPS - 1)])
    coordinate = int(choose(grads, SETTINGS, 5, 0)[0])
    rows = found.responses
    rows = rows[(rows["optimizer"] == "mixing") & (rows["coordinate"] == coordinate)]
    for step, place in ((1, 0), (4, 17)):
        row = rows[rows["step"] == step].iloc[place]
        changed = grads[:step].clone()
        changed[-1, coordinate] = float(row["gradient"])
        unread = Params(torch.full_like(changed, torch.nan), objective.spec)
        expected = replay(optimizer, unread, changed)[-1, coordinate]
        assert row["update"] == pytest.approx(expected.item(), rel=1e-3, abs=1e-6)


def test_effects_of_one_gradient_are_those_of_the_formulas() -> None:
    grads, chosen = 1 + gradients().abs(), torch.tensor([2, 3])
    given = (PARAMS, grads, chosen, 4, True)
    sgd = impulses(SGD(0.5), *given)
    turned = grads[: STEPS - 4, chosen]  # every step that has four more after it
    torch.testing.assert_close(sgd[0], 0.5 * turned.mean(0))
    assert not sgd[1:].any()
    momentum = impulses(NAG(0.5, momentum=0.9), *given)
    expected = sgd[0] * 0.9 ** torch.arange(5.0).unsqueeze(1)
    torch.testing.assert_close(momentum, expected, rtol=1e-4, atol=1e-6)


def test_drawn_coordinates_have_a_gradient_at_every_step_and_given_ones_come_first() -> None:
    grads = gradients()
    grads[3, [0, 2]] = 0
    chosen = choose(grads, replace(SETTINGS, coordinates=9, shown=(2, 4)), 0, 0)
    assert chosen[:2].tolist() == [2, 4]
    assert sorted(chosen[2:].tolist()) == [1, 3, 5]
    assert torch.equal(choose(grads, SETTINGS, 0, 7), choose(grads, SETTINGS, 0, 7))
    with pytest.raises(SuiteError, match="instance 7: no coordinate has a gradient at every step"):
        choose(torch.zeros(3, 5), SETTINGS, 0, 7)


def test_diverged_trajectories_are_left_out() -> None:
    with pytest.raises(SuiteError, match="LSTM diverges on every instance"):
        trace(Quadratic(), {"LSTM": SGD(1e3)}, SETTINGS, 60, 2, seed=0)


EXPERIMENT = """
title: A trace
sizes: {test_instances: 3, tuning_instances: 2}
panels:
  p:
    title: P
    problem: {name: quadratic}
    steps: 6
    optimizers: {LSTM: {name: nag, lr: 0.01}, SGD: {name: sgd}}
    trace: {along: LSTM, instances: 2, coordinates: 3, probed: 2, response_steps: 4, points: 21}
"""


def planned(tmp_path: Path, text: str = EXPERIMENT) -> Any:
    (tmp_path / "e.yaml").write_text(text)
    return make_plan(build([read_experiment(tmp_path / "e.yaml")], "paper", []))


def finished(cell: Cell, root: Path) -> None:
    for each in (*cell.inputs, cell):
        assert run_cell(each, root, "cpu").state == "done"


def test_trace_cell_takes_the_tuned_rates_and_is_done_once(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    (curve,) = plan.traces
    assert curve.cell in plan.results
    assert [cell.kind for cell in curve.cell.inputs] == ["tune"]
    open_results(tmp_path)
    finished(curve.cell, tmp_path)
    found = load_traces(curve.cell.folder(tmp_path))
    assert set(found.traces["optimizer"]) == {"LSTM", "SGD"}
    assert {name: list(table) for name, table in found.tables().items()} == {
        name: list(columns) for name, columns in COLUMNS.items()
    }
    assert len(found.traces) == 2 * 2 * 3 * 6
    assert len(found.responses) == 2 * 2 * 2 * 4 * 21
    assert len(found.impulses) == 2 * 2 * 3 * 4
    sgd = found.traces[found.traces["optimizer"] == "SGD"]
    tuned = pd.read_json(curve.cell.inputs[0].folder(tmp_path) / "best.json", typ="series")
    np.testing.assert_allclose(sgd["update"], -tuned["learning_rate"] * sgd["gradient"], rtol=1e-5)

    # What is kept at hand is what the figures show of the first instance.
    infos = experiment_infos(plan, "paper")
    kept = collect_tables(plan, tmp_path, infos)
    assert len(kept.traces) == 2 * 3 * 6
    assert len(kept.responses) == 2 * 2 * 4 * 21
    assert list(kept.traces["update"][:18]) == list(found.traces["update"][:18])

    (curve.cell.folder(tmp_path) / "impulses.parquet").write_bytes(b"PAR1 and then nothing")
    assert state_of(curve.cell, tmp_path) == "missing"
    with pytest.raises(SuiteError, match=r"impulses\.parquet cannot be read"):
        load_traces(curve.cell.folder(tmp_path))
    assert run_cell(curve.cell, tmp_path, "cpu").seconds > 0
    pd.testing.assert_frame_equal(load_traces(curve.cell.folder(tmp_path)).traces, found.traces)


def test_settings_that_name_what_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"trace\.along: no optimizer 'LSTN' here"):
        planned(tmp_path, EXPERIMENT.replace("along: LSTM", "along: LSTN"))
    with pytest.raises(SuiteError, match=r"panels\.p\.trace\.shown: 99 must be below 10"):
        planned(tmp_path, EXPERIMENT.replace("instances: 2, c", "shown: [99], c"))
    with pytest.raises(SuiteError, match=r"panels\.p\.trace: 'SGD' has earlier_runs, whose state"):
        planned(tmp_path, EXPERIMENT.replace("name: sgd", "name: sgd, earlier_runs: 1"))


def test_folder_without_traces_has_no_files_of_them(tmp_path: Path) -> None:
    (tmp_path / "traces.parquet").write_text("of an earlier run")
    save_tables(tmp_path, join_tables([]))
    assert sorted(path.stem for path in tmp_path.glob("*.parquet")) == [
        "curves",
        "losses",
        "scores",
    ]
