"""final.csv has each optimizer's last loss beside the paper's."""

import numpy as np
import pandas as pd
import pytest
from tidy_curves import INSTANCES, STEPS, condensed, experiment, known, rows

from l2l.suite.core.errors import SuiteError
from l2l.suite.plan.definitions import PaperPanel
from l2l.suite.report.final import COLUMNS, final_losses


def finals(curves, **panel):
    info = experiment(["LSTM", "ADAM"], **panel)
    return final_losses([info], *known(condensed(info, curves))).set_index("optimizer")


def test_columns_are_the_contract():
    contract = (
        "experiment,panel,optimizer,learning_rate,step,mean,ci_low,ci_high,median,n,diverged,"
        "diverged_on,paper,ratio,distance"
    )
    assert ",".join(COLUMNS) == contract


def test_mean_is_that_of_the_last_tenth():
    curves = pd.concat([rows("LSTM", 0.1), rows("ADAM", 0.2)])
    found = finals(curves)
    last = curves[(curves["optimizer"] == "ADAM") & (curves["step"] > STEPS * 0.9)]
    last = last.groupby("instance")["loss"].mean()
    assert found.loc["ADAM", "mean"] == pytest.approx(last.mean())
    assert found.loc["ADAM", "median"] == pytest.approx(last.median())
    assert found.loc["ADAM", "ci_low"] < last.mean() < found.loc["ADAM", "ci_high"]
    assert found.loc["ADAM", "learning_rate"] == 0.1
    assert np.isnan(found.loc["LSTM", "learning_rate"])
    assert np.isnan(found.loc["ADAM", "paper"])


def test_diverged_runs_are_counted_and_left_out():
    found = finals(rows("ADAM", 0.2, diverged=[0, 3]))
    assert found.loc["ADAM", "diverged"] == 2
    assert found.loc["ADAM", "diverged_on"] == "0 3"
    assert found.loc["ADAM", "n"] == INSTANCES - 2
    assert np.isfinite(found.loc["ADAM", "mean"])
    lost = finals(rows("ADAM", 0.2, diverged=range(INSTANCES)))
    assert lost.loc["ADAM", "n"] == 0
    assert np.isnan(lost.loc["ADAM", "mean"])


def test_the_paper_is_compared_at_the_same_number_of_updates():
    # The figure has 100 steps; a shorter run must not be held against their end.
    found = finals(rows("ADAM", 0.2), paper=PaperPanel("fig4", "mnist"))
    assert found.loc["ADAM", "paper"] > 1
    assert found.loc["ADAM", "ratio"] == pytest.approx(
        found.loc["ADAM", "mean"] / found.loc["ADAM", "paper"]
    )


def test_what_was_not_run_has_no_row():
    assert list(finals(rows("ADAM", 0.2)).index) == ["ADAM"]
    assert finals(rows("ADAM", 0.2, steps=STEPS - 1)).empty


def test_two_losses_for_one_step_are_an_error():
    with pytest.raises(SuiteError, match="ADAM has more than one loss"):
        finals(pd.concat([rows("ADAM", 0.2), rows("ADAM", 0.3)]))
