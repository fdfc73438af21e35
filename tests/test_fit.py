"""The search for the figures' settings finds them, and goes on where it was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import fit
from benchmarks.fit import Fit, Table, run_fit

SPEC = Fit(
    figure="fig4",
    panels={"quadratics": {}},
    problem={"name": "quadratic"},
    vary={"distribution": ["gaussian", "uniform"]},
    optimizers={"SGD": {"name": "sgd"}},
    rates={"SGD": [0.004, 0.008]},
    steps=30,
    instances=512,
)


def test_sgd_on_quadratics_is_found(tmp_path: Path) -> None:
    """docs/calibration.md: uniform ones, at a rate of .016, outside of where the search begins."""
    table = Table(tmp_path / "fit.csv", "rms")
    run_fit(SPEC, table)
    best = min(table.rows, key=lambda row: float(row["rms"]))
    assert best["problem"] == '{"distribution": "uniform"}'
    assert float(best["learning_rate"]) == pytest.approx(0.016, rel=0.45)
    assert float(best["rms"]) < 0.1


def test_trials_of_another_problem_or_seed_are_not_taken_for_these(tmp_path: Path) -> None:
    path = tmp_path / "fit.csv"
    run_fit(replace(SPEC, instances=4), Table(path, "rms"))
    number = len(Table(path, "rms").rows)
    run_fit(replace(SPEC, instances=4, seed=2), Table(path, "rms"))
    assert len(Table(path, "rms").rows) >= number + len(SPEC.rates["SGD"])
    number = len(Table(path, "rms").rows)
    run_fit(replace(SPEC, instances=4, problem={"name": "quadratic", "dim": 5}), Table(path, "rms"))
    assert len(Table(path, "rms").rows) >= number + len(SPEC.rates["SGD"])


def test_finished_trials_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fit.csv"
    run_fit(SPEC, Table(path, "rms"))
    before = path.read_text()

    def fail(*_: object) -> None:
        raise AssertionError("a trial was run again")

    monkeypatch.setattr(fit, "curves", fail)
    run_fit(SPEC, Table(path, "rms"))
    assert path.read_text() == before


def test_tuning_takes_the_rate_that_ends_lowest_not_the_nearest_to_the_figure(
    tmp_path: Path,
) -> None:
    """docs/calibration.md: SGD ends lower at .024 than at the figure's .016."""
    tuning = replace(
        SPEC,
        problem={"name": "quadratic", "distribution": "uniform"},
        vary={},
        best="end",
        refine=0,
    )
    table = Table(tmp_path / "fit.csv", tuning.best)
    run_fit(replace(tuning, rates={"SGD": [0.016, 0.024]}), table)
    ends = {float(row["learning_rate"]): float(row["end"]) for row in table.rows}
    nearness = {float(row["learning_rate"]): float(row["rms"]) for row in table.rows}
    assert ends[0.024] < ends[0.016]
    assert nearness[0.016] < nearness[0.024]
    written = pd.read_csv(tmp_path / "fit.csv")
    assert written.learning_rate[0] == 0.024
    # The mean of the losses after updates 28 to 30, the last tenth.
    losses = fit.curves(tuning.problem, {"name": "sgd", "lr": 0.024}, 30, 512, 1)
    assert ends[0.024] == pytest.approx(losses[28:].mean())
    error = losses[28:].mean(0).std(ddof=1) / 512**0.5
    assert written.end_error[0] == pytest.approx(error, rel=1e-3)
