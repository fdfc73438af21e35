"""The claim that one curve is another one."""

import pandas as pd
import pytest
from tidy_curves import INSTANCES, condensed, experiment, known, rows

from l2l.suite.core.errors import SuiteError
from l2l.suite.report.claims.verdicts import check_claims

BELOW = {"panel": "p", "optimizer": "LSTM"}


def verdict(test, options, *curves):
    info = experiment(["LSTM", "ADAM"], test, options)
    return check_claims([info], *known(condensed(info, pd.concat(curves)))).iloc[0]


def slowed(curve, stride):
    """The same runs with `stride` updates for each one, as far as the panel's steps go."""
    slow = [curve.assign(step=curve.step * stride + extra) for extra in range(stride)]
    return pd.concat(slow).query(f"step <= {curve.step.max()}")


def test_follows_compares_whole_curves():
    options = {**BELOW, "than": "ADAM", "tolerance": 0.01}
    adam = rows("ADAM", 0.2)
    same = adam.assign(optimizer="LSTM")
    apart = same.assign(loss=same.loss + 0.02 * (same.step == 7))
    row = verdict("follows", options, apart, adam)
    first = adam[adam.step == 0].loss
    assert row.estimate == pytest.approx((0.02 / first).mean())
    assert verdict("follows", {**options, "tolerance": 0.1}, apart, adam).verdict == "reproduced"
    assert (
        verdict("follows", {**options, "tolerance": 0.001}, apart, adam).verdict == "contradicted"
    )


def test_follows_at_a_slower_pace():
    adam = rows("ADAM", 0.2)
    slow = slowed(adam, 2).assign(optimizer="LSTM")
    options = {**BELOW, "than": "ADAM", "tolerance": 0.01}
    assert verdict("follows", options, slow, adam).verdict == "contradicted"
    row = verdict("follows", {**options, "stride": 2.0}, slow, adam)
    assert (row.verdict, row.estimate, row.n) == ("reproduced", 0.0, INSTANCES)


def test_divergence_is_not_following():
    adam = rows("ADAM", 0.2, diverged=[3])
    options = {**BELOW, "than": "ADAM", "tolerance": 0.01}
    for other in (adam, rows("ADAM", 0.2)):
        row = verdict("follows", options, adam.assign(optimizer="LSTM"), other)
        assert row.verdict != "reproduced"
        assert "LSTM diverged on 1 of 40" in row.note


def test_gap_is_a_part_of_the_size_of_a_negative_loss():
    adam = rows("ADAM", 0.2)
    adam["loss"] -= 10
    apart = adam.assign(optimizer="LSTM", loss=adam.loss + (adam.step == 7))
    row = verdict("follows", {**BELOW, "than": "ADAM", "tolerance": 0.01}, apart, adam)
    assert row.verdict == "contradicted" and row.estimate > 0.05


def test_curves_that_share_only_their_start_are_not_compared():
    adam = rows("ADAM", 0.2)
    options = {**BELOW, "than": "ADAM", "tolerance": 0.01, "stride": 1000.0}
    assert verdict("follows", options, adam.assign(optimizer="LSTM"), adam).verdict == "unchecked"
    with pytest.raises(SuiteError, match=r"stride is -1\.0, but must be a number, above 0"):
        verdict("follows", {**options, "stride": -1.0}, adam.assign(optimizer="LSTM"), adam)
