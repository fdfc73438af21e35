"""Claims on how fast an optimizer learns."""

import pandas as pd
import pytest
from tidy_curves import STEPS, condensed, experiment, known, rows

from l2l.suite.report.claims.verdicts import check_claims

OPTIONS = {"panel": "p", "optimizer": "LSTM", "until": [STEPS // 2]}


def verdict(test, *curves):
    info = experiment(["LSTM", "ADAM"], test, OPTIONS)
    return check_claims([info], *known(condensed(info, pd.concat(curves)))).iloc[0]


def crossing(optimizer, early, late):
    """Curves as of `rows`, below until the middle of the run, then elsewhere."""
    before, after = rows(optimizer, early), rows(optimizer, late)
    return pd.concat([before[before["step"] <= STEPS // 2], after[after["step"] > STEPS // 2]])


def test_lower_early_is_faster_whatever_comes_later():
    row = verdict("learns_faster", crossing("LSTM", 0.05, 0.5), rows("ADAM", 0.2))
    assert row.verdict == "reproduced"
    assert row.ci_high < 0
    assert "LSTM is after 8" in row.note or "LSTM is after 7" in row.note
    row = verdict("learns_faster", crossing("LSTM", 0.5, 0.05), rows("ADAM", 0.2))
    assert row.verdict == "contradicted"
    assert row.ci_low > 0


def test_how_soon_is_not_blurred_where_curves_are_steep():
    adam = rows("ADAM", 0.05)
    lstm = adam[adam["step"] < 2].assign(loss=1.0), adam[adam["step"] >= 2].assign(loss=0.01)
    row = verdict("learns_faster", pd.concat(lstm).assign(optimizer="LSTM"), adam)
    assert "LSTM is after 2" in row.note


def test_every_stretch_must_be_lower():
    both = {**OPTIONS, "until": [STEPS // 2, STEPS]}
    for early, late, expected in (
        (0.05, 0.05, "reproduced"),
        (0.05, 0.5, "contradicted"),
        (0.5, 0.05, "contradicted"),
    ):
        info = experiment(["LSTM", "ADAM"], "learns_faster", both)
        curves = pd.concat([crossing("LSTM", early, late), rows("ADAM", 0.2)])
        row = check_claims([info], *known(condensed(info, curves))).iloc[0]
        assert row.verdict == expected
        assert "updates 1 to 10: " in row.note
        assert "updates 11 to 20: " in row.note


def test_interval_is_that_of_the_stretch_that_decides():
    """The second has the higher estimate, but hangs on no single instance; the first does."""
    both = {**OPTIONS, "until": [STEPS // 2, STEPS]}
    lstm, adam = rows("LSTM", 0.1), rows("ADAM", 0.2)
    early = (lstm["step"] <= STEPS // 2) & (lstm["step"] > 0)
    lstm.loc[early & (lstm["instance"] < 2), "loss"] *= 1e3
    lstm.loc[early & (lstm["instance"] >= 2), "loss"] /= 2.2
    lstm.loc[lstm["step"] > STEPS // 2, "loss"] *= 1.2
    info = experiment(["LSTM", "ADAM"], "learns_faster", both)
    row = check_claims([info], *known(condensed(info, pd.concat([lstm, adam])))).iloc[0]
    assert row.note.count("(inconclusive)") == row.note.count("(reproduced)") == 1
    assert row.verdict == "inconclusive"
    assert row.ci_low < row.estimate < 0 < row.ci_high


def test_interval_is_that_of_the_end_where_the_end_decides():
    lstm = crossing("LSTM", 0.05, 0.5)
    row = verdict("learns_faster_and_ends_below", lstm, rows("ADAM", 0.2))
    assert (row.verdict, row.ci_low > 0) == ("contradicted", True)


@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [(0.05, 0.05, "reproduced"), (0.05, 0.5, "contradicted"), (0.5, 0.05, "contradicted")],
)
def test_both_must_hold_where_both_are_claimed(early, late, expected):
    lstm = crossing("LSTM", early, late)
    row = verdict("learns_faster_and_ends_below", lstm, rows("ADAM", 0.2))
    assert row.verdict == expected
    assert "at the end" in row.note


def test_missing_runs_leave_the_claim_unchecked():
    assert verdict("learns_faster", rows("ADAM", 0.2)).verdict == "unchecked"
