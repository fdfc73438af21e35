"""What a results folder keeps is thin, and gives the claims what every step of every run gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tidy_curves import condensed, experiment, known, rows

from l2l.suite.plan.definitions import ExperimentInfo
from l2l.suite.report.claims.verdicts import check_claims
from l2l.suite.report.condense import INSTANCES, kept_steps, rounded, thin
from l2l.suite.report.final import final_losses
from l2l.suite.report.result_tables import join_tables, load_tables, save_tables
from l2l.suite.report.runs import Runs
from l2l.suite.report.statistics.intervals import mean_band

STEPS = 300
NAMES = ["LSTM", "ADAM"]


def info_of(test: str = "", **options: Any) -> ExperimentInfo:
    info = experiment(NAMES, test, {"panel": "p", "optimizer": "LSTM", **options}, first_shown=20)
    return dataclasses.replace(info, panels=(dataclasses.replace(info.panels[0], steps=STEPS),))


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return pd.concat(
        [rows("LSTM", 0.1, steps=STEPS), rows("ADAM", 0.2, steps=STEPS, diverged=[3, 5])]
    )


def losses(runs: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    """Every loss: a row an instance, a column a step."""
    own = runs[runs["optimizer"] == optimizer]
    return own.pivot(index="instance", columns="step", values="loss")


@pytest.mark.parametrize(
    ("test", "options", "measured"),
    [
        ("ends_below_all", {}, lambda a, b: (a.loc[:, 271:] - b.loc[:, 271:]).mean(axis=1)),
        (
            "area_below_all",
            {"margin": 0.1},
            lambda a, b: (np.log10(a.loc[:, 21:]) - np.log10(b.loc[:, 21:])).mean(axis=1),
        ),
        (
            "learns_faster",
            {"until": [111]},
            lambda a, b: (np.log10(a.loc[:, 1:111]) - np.log10(b.loc[:, 1:111])).mean(axis=1),
        ),
        ("sum_below", {"bound": 7.0, "until": 123}, lambda a, b: a.loc[:, :122].sum(axis=1) - 7.0),
        (
            "follows",
            {"than": "ADAM", "tolerance": 0.1},
            lambda a, b: (a - b).abs().max(axis=1) / b[0],
        ),
    ],
)
def test_claims_measure_every_step_of_every_run(
    tmp_path: Path, test: str, options: dict[str, Any], measured: Any
) -> None:
    runs = pd.concat([rows("LSTM", 0.1, steps=STEPS), rows("ADAM", 0.2, steps=STEPS)])
    info = info_of(test, **options)
    save_tables(tmp_path, condensed(info, runs))
    (row,) = check_claims([info], *known(load_tables(tmp_path))).itertuples()
    expected = measured(losses(runs, "LSTM"), losses(runs, "ADAM"))
    assert row.estimate == pytest.approx(expected.mean(), rel=1e-6)
    assert row.n == len(expected)


def test_final_losses_are_those_of_the_last_tenth(tmp_path: Path, runs: pd.DataFrame) -> None:
    save_tables(tmp_path, condensed(info_of(), runs))
    found = final_losses([info_of()], *known(load_tables(tmp_path))).set_index("optimizer")
    for name in NAMES:
        last = losses(runs, name).loc[:, 271:].mean(axis=1)
        finite = last[np.isfinite(last)]
        assert found["mean"][name] == pytest.approx(finite.mean(), rel=1e-6)
        assert found["diverged"][name] == len(last) - len(finite)


def test_last_tenth_of_each_run_is_kept(runs: pd.DataFrame) -> None:
    _, scores = known(condensed(info_of(), runs))
    found = scores["e", "p", "LSTM", "mean loss, steps 271 to 300"]
    np.testing.assert_allclose(found, losses(runs, "LSTM").loc[:, 271:].mean(axis=1), rtol=1e-6)


def test_mean_and_band_are_kept_at_every_step_to_almost_five_digits(runs: pd.DataFrame) -> None:
    tables = condensed(info_of(), runs)
    found = tables.curves[tables.curves["optimizer"] == "ADAM"]
    finished = losses(runs, "ADAM").drop(index=[3, 5]).to_numpy()
    assert list(found["step"]) == list(range(STEPS + 1))
    for name, expected in zip(("mean", "low", "high"), mean_band(finished), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=2e-5)
        np.testing.assert_array_equal(found[name], rounded(found[name].to_numpy()))
    assert set(found["n"]) == {len(finished)} and set(found["diverged"]) == {2}


def test_losses_of_each_run_are_kept_at_some_steps_to_five_digits(runs: pd.DataFrame) -> None:
    kept = condensed(info_of(), runs).losses.set_index(["optimizer", "instance", "step"])["loss"]
    every = runs.set_index(["optimizer", "instance", "step"])["loss"]
    assert list(kept["LSTM"][0].index) == list(kept_steps(STEPS))
    np.testing.assert_allclose(kept, every[kept.index], rtol=2e-5)
    assert np.isinf(kept["ADAM"][3][STEPS])


def test_losses_are_kept_of_the_first_instances() -> None:
    instances = np.array([0, 1, INSTANCES - 1, INSTANCES])
    found = thin(Runs(instances, np.arange(3), np.ones((4, 3)), 0.1))
    assert list(found["instance"].unique()) == [0, 1, INSTANCES - 1]


def test_kept_steps_are_logarithmically_spaced_from_first_to_last() -> None:
    assert list(kept_steps(40)) == list(range(41))
    for last in (60, 100, 1000, 100_000):
        steps = kept_steps(last)
        assert list(steps[:3]) == [0, 1, 2] and steps[-1] == last
        assert len(steps) <= 61
        ratios = steps[20:] / steps[19:-1]
        assert ratios.max() < 1.5


def test_rounding_keeps_infinity_and_zero() -> None:
    values = np.array([0.0, np.inf, 1.0, 1e30, 1e-30])
    np.testing.assert_allclose(rounded(values), values, rtol=2e-5)


def test_types_are_the_same_with_and_without_rows(tmp_path: Path, runs: pd.DataFrame) -> None:
    save_tables(tmp_path, condensed(info_of(), runs))
    whole = load_tables(tmp_path)
    save_tables(tmp_path, join_tables([]))
    empty = load_tables(tmp_path)
    for name in ("curves", "losses", "scores"):
        assert list(empty.by_name()[name].dtypes) == list(whole.by_name()[name].dtypes)
