"""Tuning: it finds the best rate, on validation instances, and no rate that diverges wins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from example_problems import Bowl, Cliff
from torch import Tensor

import l2l.suite.inner.objective
import l2l.suite.inner.tune
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.kind import Job
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Problem, Tensors
from l2l.suite.files.progress import silent
from l2l.suite.inner.evaluate import evaluate
from l2l.suite.inner.memory import BUDGET
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.tune import (
    FIRST,
    HIGHEST,
    LOWEST,
    TuningResult,
    tune,
    with_fewer_rates,
    with_rate,
)
from l2l.suite.run.kinds.tune import Tune

STEPS, INSTANCES, SEED = 3, 4, 2


def sweep(problem: Problem, name: str = "sgd", steps: int = STEPS, **options: Any) -> TuningResult:
    return tune(problem, {"name": name, **options}, steps, INSTANCES, SEED)


def exponent(rate: float) -> float:
    """In quarter decades."""
    return 4 * math.log10(rate)


# SGD's best rate on a bowl is 1 / curvature, on the grid or off it.
@pytest.mark.parametrize("best", [1e-2, 10**-1.5, 10**-0.25, 0.3, 1.1])
def test_known_optimum_is_found_to_the_grids_ratio(best: float) -> None:
    found = sweep(Bowl(curvature=1 / best)).best
    assert abs(exponent(found) - exponent(best)) <= 0.75


def test_grid_is_half_decades_then_the_quarters_beside_the_best() -> None:
    table = sweep(Bowl(curvature=10.0)).table
    first = table[table["round"] == 0]
    assert [round(exponent(rate), 6) for rate in first.learning_rate] == list(range(-16, 5, 2))
    last = table[table["round"] == table["round"].max()]
    assert sorted(round(exponent(rate), 6) for rate in last.learning_rate) == [-5, -3]
    assert not table.learning_rate.duplicated().any()


@pytest.mark.parametrize("best", [1e-6, 1e3])
def test_grid_is_widened_while_the_best_is_at_its_edge(best: float) -> None:
    result = sweep(Bowl(curvature=1 / best))
    assert abs(exponent(result.best) - exponent(best)) <= 0.75
    tried = result.table.learning_rate
    assert tried.min() < result.best < tried.max(), "the best is not at an edge"


@pytest.mark.parametrize("best", [3e-9, 1e12])
def test_widening_ends(best: float) -> None:
    result = sweep(Bowl(curvature=1 / best))
    tried = result.table.learning_rate.map(exponent).round(6)
    assert tried.between(LOWEST, HIGHEST).all()


@pytest.mark.parametrize(
    ("best", "sign", "told"),
    [
        (1.0, 1, ""),
        (1.0, -1, "1e-08, is the lowest that is tried: is the sign of its update right?"),
        (1e6, 1, "1e+05, is the highest that is tried: does its update grow with it?"),
    ],
)
def test_rate_at_an_end_of_the_widest_grid_is_told(best: float, sign: int, told: str) -> None:
    class Turned(Bowl):
        """Its gradient has the wrong sign, as an update may."""

        def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
            theta = params["theta"]
            turned = sign * theta + (1 - sign) * theta.detach()
            return super().loss({"theta": turned}, instance, batch)

    found = sweep(Turned(curvature=1 / best)).told
    assert found == (told and f"its best learning rate, {told}")


def test_cell_says_that_its_rate_is_at_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table = pd.DataFrame({"learning_rate": [1e-8, 1e-7], "mean_final": [1.0, 2.0]})
    result = TuningResult(1e-8, table)
    monkeypatch.setattr(l2l.suite.inner.tune, "tune", lambda *given: result)
    spec = {"problem": {"spec": {"name": "quadratic"}}, "optimizer": {"spec": {"name": "sgd"}}}
    config = {**spec, "steps": 3, "instances": 2, "seed": 1}
    Tune().run(Job(config, (), tmp_path, "cpu", silent))
    assert f"sgd: {result.told}" in caplog.text


def test_velocity_of_an_earlier_run_that_diverged_costs_its_rate_alone() -> None:
    """It leads the first gradient to where there is none, for which no problem is to blame."""

    class Steep(Bowl):
        def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
            return (params["theta"] - instance["y"]).square().sum() ** 4

    table = sweep(Steep(), "nag", steps=4, earlier_runs=1).table
    diverged = table[table["diverged"] > 0]
    assert 0 < len(diverged) < len(table)
    assert diverged["mean_final"].eq(math.inf).all()
    assert diverged["learning_rate"].min() > table["learning_rate"][table["diverged"] == 0].max()


def test_lower_rates_are_tried_where_all_of_the_first_ones_diverge() -> None:
    result = sweep(Bowl(curvature=1e7), steps=60)
    first = result.table[result.table["round"] == 0]
    assert (first.diverged > 0).all()
    assert result.best == pytest.approx(1e-7)


def test_best_is_the_lowest_mean_final_loss_of_the_table() -> None:
    result = sweep(Quadratic(dim=3), "adam", steps=20)
    table = result.table
    assert result.best == table.learning_rate[table.mean_final.idxmin()]


def test_table_holds_what_evaluation_of_each_rate_gives() -> None:
    for row in sweep(Quadratic(dim=3), "nag", steps=30).table.itertuples():
        optimizer = optimizers.make({"name": "nag", "lr": float(row.learning_rate)})
        finals = evaluate(Quadratic(dim=3), optimizer, 30, INSTANCES, SEED, split="validation")
        finals = finals[:, -3:].mean(dim=1)  # the last tenth
        assert row.diverged == (~finals.isfinite()).sum()
        assert row.mean_final == pytest.approx(finals.mean().item(), rel=1e-3)


def test_rate_at_which_any_run_diverges_cannot_win() -> None:
    """Far down beyond the cliff lies the best mean of those that got there."""

    @dataclass(frozen=True)
    class Tempting(Cliff):
        def loss(self, params: Tensors, instance: Tensors, batch: Tensor) -> Tensor:
            theta = params["theta"]
            fallen = (theta.abs().max() > 0.5) & (instance["edge"] < 1)
            reward = -100 * theta.abs().sum()
            return torch.where(fallen, torch.inf, reward + instance["y"].sum())

    result = tune(Tempting(), {"name": "sgd"}, STEPS, 8, SEED)
    table = result.table.set_index("learning_rate")
    assert (table.diverged > 0).any()
    assert (table.mean_final[table.diverged > 0] == math.inf).all()
    assert table.diverged[result.best] == 0
    assert math.isfinite(table.mean_final[result.best])


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_all_rates_diverging_is_a_sentence(name: str) -> None:
    @dataclass(frozen=True)
    class Needle(Bowl):
        def init(self, rng: Rng) -> Tensors:
            return {"theta": torch.zeros(1)}

        def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
            moved = (params["theta"] != 0).any()
            return torch.where(moved, torch.inf, super().loss(params, instance, batch))

    with pytest.raises(SuiteError, match=rf"tuning {name}: no learning rate from 1e-08 to 10 ends"):
        sweep(Needle(), name)


def test_lower_rates_are_tried_where_every_rate_of_the_grid_diverges() -> None:
    result = sweep(Bowl(curvature=1e7), steps=20)
    first = result.table[result.table["round"] == 0]
    assert (first.mean_final == math.inf).all()
    assert abs(exponent(result.best) - exponent(1e-7)) <= 0.75


def test_optimizer_without_a_tuned_field_is_refused() -> None:
    with pytest.raises(SuiteError, match="'lstm' has no hyperparameter that is tuned"):
        sweep(Bowl(), "lstm")


def test_split_by_a_memory_budget_gives_the_same_table(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Quadratic(dim=12)
    sizes: list[int] = []

    class Counting(Objective):
        def __init__(self, *arguments: Any, copies: int, **options: Any) -> None:
            sizes.append(copies)
            super().__init__(*arguments, copies=copies, **options)

    monkeypatch.setattr(l2l.suite.inner.tune, "Objective", Counting)
    whole = sweep(problem, "adam", steps=8).table
    monkeypatch.setenv(BUDGET, "1")
    monkeypatch.setattr("l2l.suite.inner.memory.OTHERS", 2**13)
    unsplit, sizes[:] = max(sizes), []
    split = sweep(problem, "adam", steps=8).table
    assert max(sizes) < unsplit, "the budget must split the sweep here"
    assert list(split.learning_rate) == list(whole.learning_rate)
    for one, other in zip(split.mean_final, whole.mean_final, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_only_validation_instances_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = set()
    rng = l2l.suite.inner.objective.Rng

    def listening(seed: int, stream: str, *rest: int) -> Any:
        streams.add(stream.partition("/")[0])
        return rng(seed, stream, *rest)

    monkeypatch.setattr(l2l.suite.inner.objective, "Rng", listening)
    sweep(Cliff())
    assert streams == {"spec", "validation"}


def test_other_hyperparameters_are_kept_while_the_rate_is_swept() -> None:
    plain, momentum = (
        sweep(Quadratic(dim=3), "rmsprop", steps=15, **options)
        for options in ({}, {"momentum": 0.9})
    )
    assert not plain.table.mean_final.equals(momentum.table.mean_final)


def test_a_sweep_tells_what_fewer_rates_would_have_found() -> None:
    exponents = [*FIRST, -5, -3]
    losses = [1 + abs(e + 3) for e in exponents]
    table = pd.DataFrame(
        {"learning_rate": [10 ** (e / 4) for e in exponents], "mean_final": losses}
    )
    assert with_fewer_rates(table) == {4: 2.0, 11: 2.0}, "at 10⁻¹, beside the best at 10^−3/4"
    assert with_rate(table, 1e-3) == 10.0
    assert with_rate(table, 2.5e-3) == 8.0, "10^−2.5 is the nearest"
    assert math.isnan(with_rate(table, 1e-5)) and math.isnan(with_rate(table, None))
    table["mean_final"] = table["mean_final"].where(table["learning_rate"] < 1e-3, float("inf"))
    assert with_rate(table, 1e-3) == float("inf")
    assert with_fewer_rates(table)[4] == float("inf")
    assert with_fewer_rates(table)[11] == 1.0
    table["mean_final"] = -1.0
    assert math.isnan(with_fewer_rates(table)[4])
