"""claims.csv: what of the paper holds, by the tests that the experiments name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import l2l.suite.report.claims.follows
import l2l.suite.report.claims.grid
import l2l.suite.report.claims.speed
import l2l.suite.report.claims.traces  # noqa: F401, these register their tests
from l2l.suite.core.convert import fill
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.plan.definitions import ClaimInfo, ExperimentInfo, PanelInfo
from l2l.suite.report.claims.evidence import Evidence, MissingRunsError, Outcome
from l2l.suite.report.claims.registry import CLAIM_TESTS as CLAIM_TESTS
from l2l.suite.report.claims.registry import ClaimTest, ScoringTest
from l2l.suite.report.claims.trainings import OfTrainings
from l2l.suite.report.curves import CurveTable
from l2l.suite.report.paper import last_update
from l2l.suite.report.scores.losses import HeldOut, Score, ScoreTable, last_tenth
from l2l.suite.report.statistics.intervals import Interval

COLUMNS = [
    *("id", "kind", "claim", "verdict", "reason"),
    *("estimate", "ci_low", "ci_high", "n", "note"),
]
NAMES_OF_OPTIMIZERS = ("optimizer", "optimizers", "trainings", "baselines", "than")


def check_claims(
    experiments: Sequence[ExperimentInfo], curves: CurveTable, scores: ScoreTable
) -> pd.DataFrame:
    """One row a claim, in the experiments' order.

    `verdict` is reproduced or contradicted where the 95 % interval of the estimate lies wholly on
    one side of the claim's threshold, inconclusive where it does not, and unchecked where runs are
    missing, too few or too short. A claim of several parts has the worst verdict of them, and the
    estimate of the part that decides. What the estimate is, the test's docstring in
    `suite.report.claims` says.

    Raises:
        SuiteError: a claim names no test that there is, or options that its test does not have.
    """
    rows = []
    for experiment in experiments:
        evidence = Evidence(experiment, curves, scores)
        for claim in experiment.claims:
            outcome = _outcome(claim, claim_test(experiment, claim), evidence)
            rows.append(
                {
                    "id": claim.id,
                    "kind": claim.kind,
                    "claim": claim.text,
                    "verdict": outcome.verdict,
                    "reason": outcome.reason,
                    "estimate": outcome.interval.estimate,
                    "ci_low": outcome.interval.low,
                    "ci_high": outcome.interval.high,
                    "n": outcome.interval.n,
                    "note": outcome.note,
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def scores_of(experiment: ExperimentInfo, panel: PanelInfo) -> list[Score]:
    """What is kept of each run of a panel: for its final losses, and for the experiment's claims.

    Raises:
        SuiteError: as `claim_test`.
    """
    scores: list[Score] = [last_tenth(panel.steps), HeldOut()]
    for claim in experiment.claims:
        test = claim_test(experiment, claim)
        if isinstance(test, ScoringTest) and test.panel == panel.name:
            scores += test.scores(panel)
    return list({score.name: score for score in scores}.values())


def claim_test(experiment: ExperimentInfo, claim: ClaimInfo) -> ClaimTest:
    """The claim's test with its options, checked against the experiment; cheap, needs no runs.

    Raises:
        SuiteError: an unknown test, option, panel or optimizer, or an option of the wrong type.
    """
    where = f"{experiment.name}.yaml, claim {claim.id}"
    if claim.test not in CLAIM_TESTS:
        raise SuiteError(
            f"{where}: no test {claim.test!r}: {nearest(claim.test, CLAIM_TESTS, plugins=True)}"
        )
    test = fill(CLAIM_TESTS[claim.test], claim.options, f"{where}: test {claim.test!r}")
    _check_names(experiment, vars(test), where)
    return test


def _check_names(experiment: ExperimentInfo, values: dict[str, Any], where: str) -> None:
    panel = _panel_of(experiment, values, where)
    if panel is None:
        return
    seen: set[str] = set()
    for key in NAMES_OF_OPTIMIZERS:
        named = values.get(key, ())
        for optimizer in (named,) if isinstance(named, str) else named:
            if optimizer in seen:
                raise SuiteError(f"{where}, {key}: {optimizer!r} is named twice")
            seen.add(optimizer)
            if optimizer not in panel.optimizers and optimizer not in experiment.left_out:
                hint = nearest(optimizer, list(panel.optimizers))
                raise SuiteError(
                    f"{where}, {key}: no optimizer {optimizer!r} in {panel.name!r}: {hint}"
                )


def _panel_of(experiment: ExperimentInfo, values: dict[str, Any], where: str) -> PanelInfo | None:
    """The panel that a test names, or the first of the grid that it names; None if neither."""
    for key, known in (
        ("panel", {p.name: p for p in experiment.panels}),
        ("grid", {p.grid: p for p in experiment.panels if p.grid}),
    ):
        if key in values:
            if values[key] not in known:
                hint = nearest(values[key], known)
                raise SuiteError(
                    f"{where}, {key}: no {key} {values[key]!r} in {experiment.name}: {hint}"
                )
            return known[values[key]]
    return None


def _outcome(claim: ClaimInfo, test: ClaimTest, evidence: Evidence) -> Outcome:
    nothing = Interval(float("nan"), float("nan"), float("nan"), 0)
    panel = _panel_of(evidence.experiment, vars(test), claim.id)
    wanted = claim.steps or _updates_meant(test, panel)
    if panel is not None and panel.steps < wanted:
        return Outcome("unchecked", nothing, "", f"{panel.steps:,} of {wanted:,} updates")
    try:
        found = test.check(evidence)
    except MissingRunsError as missing:
        return Outcome("unchecked", nothing, str(missing))
    if panel is not None and _trainings(test) < 2 and _names(test) & {*panel.learned}:
        found = replace(found, note=f"{found.note}; one training")
    if found.interval.n < claim.runs:
        reason = f"{found.interval.n:,} of at least {claim.runs:,} runs"
        return replace(found, verdict="unchecked", reason=reason)
    return found


def _updates_meant(test: ClaimTest, panel: PanelInfo | None) -> int:
    """How many updates a claim is about: as many as its test's option and the figure say."""
    until = vars(test).get("until", ())
    ends = [int(end) for end in np.atleast_1d(until) if np.isfinite(end)]
    if panel is not None and panel.paper is not None:
        ends.append(last_update(panel.paper))
    return max(ends, default=0)


def _trainings(test: ClaimTest) -> int:
    """How many trainings of one recipe a claim is about."""
    if isinstance(test, OfTrainings):
        return len(test.optimizers)
    return 1 + len(vars(test).get("trainings", ()))


def _names(test: ClaimTest) -> set[str]:
    """The optimizers that a claim is about, without the baselines."""
    values = vars(test)
    names = {values.get("optimizer"), values.get("than"), *values.get("optimizers", ())}
    return {name for name in names if isinstance(name, str)}
