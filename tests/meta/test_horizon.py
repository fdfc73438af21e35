"""Horizons that are drawn for each run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import l2l.suite.meta.metatrain
from l2l.optimizers.learned.base import Learned
from l2l.problems.quadratic import Quadratic
from l2l.suite.commands.status import work_of
from l2l.suite.core.convert import fill
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.estimator import Estimate
from l2l.suite.meta.estimators.truncated import Truncated
from l2l.suite.meta.metatrain import metatrain
from l2l.suite.meta.schedule import Horizon, Phase, Schedule

SPEC = {"name": "lstm", "preprocessing": "none", "hidden": 4}
DRAWN = Phase(
    runs=12,
    horizon=Horizon(4, 40),
    estimator={"name": "truncated", "window": 4},
    rate=0.01,
    batch=2,
)


def test_horizons_are_drawn_log_uniformly_for_each_run_and_seed() -> None:
    steps = [DRAWN.steps(seed=1, run=run) for run in range(2000)]
    assert min(steps) == 4 and max(steps) == 40
    logs = [math.log(each / 4) / math.log(10) for each in steps]
    assert sum(logs) / len(logs) == pytest.approx(0.5, abs=0.03)
    assert sum(each < 0.25 for each in logs) / len(logs) == pytest.approx(0.25, abs=0.06)
    assert steps == [DRAWN.steps(seed=1, run=run) for run in range(2000)]
    assert steps != [DRAWN.steps(seed=2, run=run) for run in range(2000)]


def test_training_takes_runs_of_these_lengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run's windows add up to its horizon, and validations are as long as the longest."""
    windows: list[list[int]] = []
    begin, gradient = Truncated.begin, Truncated.gradient

    def watched_begin(self: Truncated, *given: Any) -> Any:
        windows.append([])
        return begin(self, *given)

    def watched(self: Truncated, *given: Any) -> Estimate:
        windows[-1].append(given[3])
        return gradient(self, *given)

    validated: list[int] = []

    def evaluate(problem: Any, optimizer: Learned, steps: int, *given: Any) -> Any:
        validated.append(steps)
        return kept(problem, optimizer, steps, *given)

    kept = l2l.suite.meta.metatrain.evaluate
    monkeypatch.setattr(Truncated, "begin", watched_begin)
    monkeypatch.setattr(Truncated, "gradient", watched)
    monkeypatch.setattr(l2l.suite.meta.metatrain, "evaluate", evaluate)
    training = Schedule((DRAWN,), validation_instances=2)
    metatrain(Quadratic(dim=3), SPEC, training, 3, tmp_path)
    assert [sum(each) for each in windows] == [DRAWN.steps(3, run) for run in range(0, 12, 2)]
    assert set(validated) == {40}


def test_phases_may_be_given_a_range() -> None:
    given = {"runs": 3, "estimator": {"name": "truncated", "window": 5}, "rate": 0.1}
    phase = fill(Phase, {**given, "horizon": {"low": 10, "high": 20}}, "p")
    assert (phase.shortest, phase.longest) == (10, 20)
    fixed = fill(Phase, {**given, "horizon": 15}, "p")
    assert (fixed.shortest, fixed.longest, fixed.steps(1, 1)) == (15, 15, 15)


@pytest.mark.parametrize(
    ("horizon", "told"),
    [
        ({"low": 20, "high": 10}, "p.horizon: low 20 must be below high 10"),
        ({"low": 20}, "p.horizon needs 'high'"),
        ({"low": 20, "hihg": 30}, "p.horizon has no 'hihg': did you mean 'high'"),
        (0, "p.horizon is 0, but must be a whole number, at least 1 or a table"),
    ],
)
def test_ranges_that_cannot_be_are_refused(horizon: Any, told: str) -> None:
    given = {"runs": 3, "estimator": {"name": "truncated"}, "rate": 0.1, "horizon": horizon}
    with pytest.raises(SuiteError) as refused:
        fill(Phase, given, "p")
    assert told in str(refused.value)


def test_work_left_counts_the_mean_length() -> None:
    mean = sum(DRAWN.steps(1, run) for run in range(4000)) / 4000
    phases = [{"runs": 10, "horizon": {"low": 4, "high": 40}}, {"runs": 2, "horizon": 7}]
    work = work_of("metatrain", {"training": {"phases": phases}})
    assert work == pytest.approx(10 * mean + 14, rel=0.03)
