"""Verdicts follow from the runs, and wrong definitions are sentences."""

from dataclasses import replace

import pandas as pd
import pytest
from tidy_curves import INSTANCES, condensed, experiment, known, rows

from l2l.suite.core.errors import SuiteError
from l2l.suite.plan.definitions import ClaimInfo, PaperPanel
from l2l.suite.report.claims.verdicts import COLUMNS, check_claims, claim_test

OPTIMIZERS = ["LSTM", "ADAM", "NAG"]
BELOW = {"panel": "p", "optimizer": "LSTM"}


def verdict(test, options, *curves, optimizers=OPTIMIZERS):
    info = experiment(optimizers, test, options)
    table = check_claims([info], *known(condensed(info, pd.concat(curves))))
    assert list(table.columns) == COLUMNS
    return table.iloc[0]


def test_clearly_below_every_baseline_is_reproduced():
    row = verdict("ends_below_all", BELOW, rows("LSTM", 0.1), rows("ADAM", 0.2), rows("NAG", 0.3))
    assert row.verdict == "reproduced"
    assert row.ci_low <= row.estimate <= row.ci_high < 0
    assert row.n == INSTANCES
    assert "best baseline ADAM" in row.note


def test_above_one_baseline_is_contradicted():
    row = verdict("ends_below_all", BELOW, rows("LSTM", 0.1), rows("ADAM", 0.2), rows("NAG", 0.05))
    assert row.verdict == "contradicted"
    assert "best baseline NAG" in row.note


def test_best_baseline_is_the_one_that_is_closest_on_the_same_instances():
    """ADAM's mean is the lowest only because it diverged where losses are high."""
    hard = rows("LSTM", 0.1)
    high = hard.instance >= 8
    ours, nag, adam = (
        rows(name, end) for name, end in (("LSTM", 0.3), ("NAG", 0.2), ("ADAM", 0.29))
    )
    for table in (ours, nag, adam):
        table.loc[table.instance >= 8, "loss"] += 5.0
    adam.loc[high & (adam.step > 0), "loss"] = float("nan")
    row = verdict("ends_below_all", BELOW, ours, adam, nag)
    assert "best baseline NAG" in row.note
    assert row.ci_low <= row.estimate <= row.ci_high


def test_negative_losses_have_no_logarithm():
    ours, adam, nag = (rows(name, 0.2) for name in OPTIMIZERS)
    ours["loss"] -= 10
    row = verdict("area_below_all", {**BELOW, "margin": 0.1}, ours, adam, nag)
    assert row.verdict == "unchecked"
    assert row.note.endswith("if its losses are not negative: these have no logarithm")


def test_optimizer_that_is_named_twice_is_refused():
    for named in (["ADAM", "ADAM"], ["LSTM"]):
        with pytest.raises(SuiteError, match=r"baselines: '.*' is named twice"):
            verdict("ends_below_all", {**BELOW, "baselines": named}, rows("LSTM", 0.1))


def test_sum_of_losses_is_that_before_each_update_and_compared_with_the_bound():
    curve = rows("LSTM", 0.1)
    total = curve[curve.step < curve.step.max()].groupby("instance").loss.sum().mean()
    for bound, expected in ((total + 5, "reproduced"), (total - 5, "contradicted")):
        row = verdict("sum_below", {**BELOW, "bound": float(bound)}, curve)
        assert row.verdict == expected
        assert row.estimate == pytest.approx(total - bound)
    diverged = rows("LSTM", 0.1, diverged=range(20))
    row = verdict("sum_below", {**BELOW, "bound": float(total + 5)}, diverged)
    assert row.verdict == "contradicted"
    assert verdict("sum_below", {**BELOW, "bound": 1.0}, rows("LSTM", 1.0, steps=5)).n == 0


def test_sum_is_of_the_first_updates_and_says_nothing_of_shorter_runs():
    curve = rows("LSTM", 0.1)
    first = curve[curve.step < 7].groupby("instance").loss.sum().mean()
    row = verdict("sum_below", {**BELOW, "bound": float(first + 1), "until": 7.0}, curve)
    assert row.verdict == "reproduced"
    assert row.estimate == pytest.approx(-1)
    row = verdict("sum_below", {**BELOW, "bound": 1e9, "until": 1000.0}, curve)
    assert row.verdict == "unchecked"
    assert row.reason == "20 of 1,000 updates"


def test_below_at_an_update_is_the_mean_of_the_tenth_before_it():
    """The LSTM leads until update 10 of 20, and then no more."""
    curves = [rows("LSTM", 0.1), rows("ADAM", 0.4), rows("NAG", 0.3)]
    curves[0].loc[curves[0]["step"] > 10, "loss"] += 1.0
    halfway = verdict("ends_below_all", {**BELOW, "until": 10.0}, *curves)
    assert halfway.verdict == "reproduced"
    assert "updates 10 to 10" in halfway.note and "best baseline NAG" in halfway.note
    at_the_end = verdict("ends_below_all", {**BELOW, "until": 20.0}, *curves)
    assert at_the_end.verdict == "contradicted"
    assert "updates 19 to 20" in at_the_end.note


def test_too_close_to_tell_is_inconclusive():
    row = verdict("ends_below_all", BELOW, rows("LSTM", 0.2), rows("ADAM", 0.2), rows("NAG", 0.3))
    assert row.verdict == "inconclusive"


def test_missing_runs_are_unchecked_and_named():
    row = verdict("ends_below_all", BELOW, rows("LSTM", 0.1), rows("ADAM", 0.2))
    assert row.verdict == "unchecked"
    assert "no mean loss, steps 19 to 20 of NAG in panel p: run it again, to step 20" in row.note
    short = rows("LSTM", 0.1, steps=5)
    row = verdict("ends_below_all", BELOW, short, rows("ADAM", 0.2), rows("NAG", 0.2))
    assert row.verdict == "unchecked"


def test_claim_on_a_panel_without_baselines_is_unchecked():
    row = verdict("ends_below_all", BELOW, rows("LSTM", 0.1), optimizers=["LSTM"])
    assert row.verdict == "unchecked"
    assert "no baselines beside LSTM" in row.note


def test_divergence_of_the_one_claimed_lower_counts_against_the_claim():
    others = rows("ADAM", 0.2), rows("NAG", 0.3)
    one = verdict("ends_below_all", BELOW, rows("LSTM", 0.01, diverged=[3]), *others)
    assert one.verdict == "inconclusive"
    many = verdict("ends_below_all", BELOW, rows("LSTM", 0.01, diverged=range(10)), *others)
    assert many.verdict == "contradicted"
    assert "LSTM diverged on 10 of 40" in many.note


def test_divergence_of_a_baseline_is_no_help_to_the_claim():
    adam = rows("ADAM", 0.05, diverged=[0, 1])
    row = verdict("ends_below_all", BELOW, rows("LSTM", 0.1), adam, rows("NAG", 0.3))
    assert row.verdict == "contradicted"
    assert row.n == INSTANCES, "as many were run"


def test_baseline_of_which_nothing_is_left_leaves_the_verdict_to_the_others():
    lost = rows("NAG", 0.3, diverged=range(INSTANCES))
    row = verdict("ends_below_all", BELOW, rows("LSTM", 0.1), rows("ADAM", 0.2), lost)
    assert row.verdict == "reproduced"
    ours = rows("LSTM", 0.1, diverged=[3])
    row = verdict("ends_below_all", BELOW, ours, rows("ADAM", 0.2), lost)
    assert row.verdict == "inconclusive"
    assert row.ci_low < 0


def test_learned_optimizers_are_no_baselines_unless_named():
    curves = rows("LSTM", 0.1), rows("ADAM", 0.2), rows("LSTM-sub", 0.05)
    names = ["LSTM", "ADAM", "LSTM-sub"]
    assert verdict("ends_below_all", BELOW, *curves, optimizers=names).verdict == "reproduced"
    named = {**BELOW, "baselines": ["ADAM", "LSTM-sub"]}
    assert verdict("ends_below_all", named, *curves, optimizers=names).verdict == "contradicted"


def test_baseline_without_a_learning_rate_is_a_baseline():
    untuned = rows("Newton", 0.01, learning_rate=float("nan"))
    names = ["LSTM", "ADAM", "Newton"]
    curves = rows("LSTM", 0.1), rows("ADAM", 0.2), untuned
    row = verdict("ends_below_all", BELOW, *curves, optimizers=names)
    assert row.verdict == "contradicted"
    assert "best baseline Newton" in row.note


def test_below_all_needs_the_interval_of_every_baseline():
    # NAG's mean is hardly the higher one, and hangs on few instances.
    nag = rows("NAG", 0.22)
    nag.loc[nag.instance < 2, "loss"] *= 5
    nag.loc[nag.instance >= 2, "loss"] *= 0.75
    curves = rows("LSTM", 0.18), rows("ADAM", 0.2)
    assert verdict("ends_below_all", BELOW, *curves, nag).verdict == "inconclusive"
    alone = {**BELOW, "baselines": ["ADAM"]}
    assert verdict("ends_below_all", alone, *curves, nag).verdict == "reproduced"


def judged_with(claim, instances=INSTANCES, **panel):
    """The verdict on a claim with options of its own, that clearly holds of these runs."""
    info = experiment(OPTIMIZERS, **panel)
    info = replace(info, claims=(claim,))
    curves = [
        rows(name, end, instances=instances)
        for name, end in zip(OPTIMIZERS, (0.1, 0.2, 0.3), strict=True)
    ]
    return check_claims([info], *known(condensed(info, pd.concat(curves)))).iloc[0]


def test_too_few_runs_decide_nothing():
    claim = ClaimInfo("C-1", "A claim.", "ends_below_all", BELOW)
    few = judged_with(claim, instances=19)
    assert (few.verdict, few.reason) == ("unchecked", "19 of at least 20 runs")
    assert few.ci_high < 0, "what they would say is told nevertheless"
    assert judged_with(claim, instances=20).verdict == "reproduced"
    assert judged_with(replace(claim, runs=5), instances=5).verdict == "reproduced"
    more = judged_with(replace(claim, runs=1000))
    assert (more.verdict, more.reason) == ("unchecked", "40 of at least 1,000 runs")


def test_too_few_updates_decide_nothing():
    claim = ClaimInfo("C-1", "A claim.", "ends_below_all", BELOW)
    short = judged_with(replace(claim, steps=1000))
    assert (short.verdict, short.reason) == ("unchecked", "20 of 1,000 updates")
    figure = PaperPanel("fig4", "mnist")
    short = judged_with(claim, paper=figure)
    assert (short.verdict, short.reason) == ("unchecked", "20 of 100 updates")
    assert judged_with(replace(claim, steps=20), paper=figure).verdict == "reproduced"


def test_claims_on_one_training_say_so():
    claim = ClaimInfo("C-1", "A claim.", "ends_below_all", BELOW)
    assert judged_with(claim).note.endswith("; one training")
    of_baselines = {"panel": "p", "optimizers": ["ADAM", "NAG"], "ratio": 2.0}
    claim = ClaimInfo("C-1", "A claim.", "ends_within", of_baselines)
    assert "one training" not in judged_with(claim).note


def test_diverged_run_of_a_baseline_leaves_enough_runs():
    info = experiment(OPTIMIZERS, "ends_below_all", BELOW)
    curves = [
        rows("LSTM", 0.1, instances=20),
        rows("ADAM", 0.2, instances=20, diverged=[4]),
        rows("NAG", 0.3, instances=20),
    ]
    row = check_claims([info], *known(condensed(info, pd.concat(curves)))).iloc[0]
    assert (row.verdict, row.n) == ("reproduced", 20)


def test_thresholds_are_told_with_where_the_verdict_turns():
    options = {"panel": "p", "optimizers": ["ADAM", "NAG"]}
    row = verdict(
        "ends_within", {**options, "ratio": 1.25}, *map(rows, OPTIMIZERS, (0.1, 0.2, 0.23))
    )
    told = (
        f"reproduced with any above {row.ci_high:.2f}, contradicted with any below {row.ci_low:.2f}"
    )
    assert told in row.note


def test_area_needs_the_margin():
    # log10 falls evenly to .1 and to .2, so the means differ by half of log10(2), .15.
    curves = rows("LSTM", 0.1), rows("ADAM", 0.2), rows("NAG", 0.3)
    assert verdict("area_below_all", {**BELOW, "margin": 0.1}, *curves).verdict == "reproduced"
    assert verdict("area_below_all", {**BELOW, "margin": 0.2}, *curves).verdict == "contradicted"


def test_ends_above_all_compares_with_the_worst():
    curves = rows("LSTM", 0.25), rows("ADAM", 0.2), rows("NAG", 0.3)
    assert verdict("ends_above_all", BELOW, *curves).verdict == "contradicted"
    curves = rows("LSTM", 0.5), rows("ADAM", 0.2), rows("NAG", 0.3)
    row = verdict("ends_above_all", BELOW, *curves)
    assert row.verdict == "reproduced"
    assert row.estimate > row.ci_low > 0
    everywhere = rows("LSTM", 0.5, diverged=range(INSTANCES))
    assert verdict("ends_above_all", BELOW, everywhere, *curves[1:]).verdict == "reproduced"


def test_ends_within_a_ratio():
    curves = rows("LSTM", 0.1), rows("ADAM", 0.2), rows("NAG", 0.23)
    names = {"panel": "p", "optimizers": ["ADAM", "NAG"]}
    assert verdict("ends_within", {**names, "ratio": 1.25}, *curves).verdict == "reproduced"
    assert verdict("ends_within", {**names, "ratio": 1.1}, *curves).verdict == "contradicted"


def test_at_least_as_good_tolerates_a_little():
    names = ["LSTM", "LSTM-constant"]
    options = {"panel": "p", "optimizer": "LSTM", "than": "LSTM-constant"}
    curves = rows("LSTM", 0.102), rows("LSTM-constant", 0.1)
    assert verdict("at_least_as_good", options, *curves, optimizers=names).verdict == "reproduced"
    strict = {**options, "tolerance": 1.0}
    assert verdict("at_least_as_good", strict, *curves, optimizers=names).verdict == "contradicted"


@pytest.mark.parametrize(
    ("test", "options", "message"),
    [
        ("ends_bellow_all", BELOW, "e.yaml, claim C-1: no test 'ends_bellow_all'.*ends_below_all"),
        ("ends_below_all", {**BELOW, "margni": 1}, "claim C-1: .* has no 'margni'"),
        ("area_below_all", BELOW, "claim C-1: .* needs 'margin': a number"),
        (
            "area_below_all",
            {**BELOW, "margin": "wide"},
            "margin is 'wide', but must be a number",
        ),
        ("ends_below_all", {**BELOW, "panel": "pp"}, "claim C-1, panel: no panel 'pp' in e.*'p'"),
        (
            "ends_below_all",
            {**BELOW, "optimizer": "ADAN"},
            "optimizer: no optimizer 'ADAN'.*'ADAM'",
        ),
        (
            "ends_below_all",
            {**BELOW, "baselines": "NAG"},
            "baselines is 'NAG', but must be a list, each text",
        ),
    ],
)
def test_wrong_definitions_say_file_claim_and_key(test, options, message):
    info = experiment(OPTIMIZERS, test, options)
    with pytest.raises(SuiteError, match=message):
        claim_test(info, info.claims[0])
