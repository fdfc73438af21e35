"""Phases that end with their first validation that is no better, each with validations of its own.

Together they are the curriculum of horizons of Chen et al. (2020).
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_metatrain import (
    FOUR,
    PROBLEM,
    SPEC,
    log_of,
    outcome,
    train,
    train_until,
    training,
    training_state,
    untrained,
)
from torch import Tensor

import l2l.suite.meta.metatrain
from l2l.optimizers.learned.checkpoint import about_optimizer, load_optimizer
from l2l.optimizers.learned.lstm import LSTM
from l2l.suite.core.convert import fill
from l2l.suite.core.errors import SuiteError
from l2l.suite.inner.evaluate import evaluate, final_steps
from l2l.suite.meta.metatrain import UNTRAINED, metatrain
from l2l.suite.meta.schedule import Phase, Schedule

STAGES = (
    Phase(40, 4, FOUR, rate=0.05, validation_steps=8, until_worse=2),
    Phase(40, 8, FOUR, rate=0.05, validation_steps=16, until_worse=2, average=0.5),
    Phase(40, 16, FOUR, rate=0.02, validation_steps=32, until_worse=2, batch=2),
)
# They end early by themselves.
REAL = [replace(each, rate=0.02, until_worse=3) for each in STAGES]


def tell(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> list[tuple[int, Tensor]]:
    """Make validation k return losses[k]; returns the steps and the φ of each."""
    seen: list[tuple[int, Tensor]] = []

    def pretend(problem: Any, optimizer: LSTM, steps: int, instances: int, *_: Any) -> Tensor:
        seen.append((steps, optimizer.phi))
        return torch.full((instances, steps + 1), losses[len(seen) - 1])

    monkeypatch.setattr(l2l.suite.meta.metatrain, "evaluate", pretend)
    return seen


def test_phase_ends_with_the_first_validation_from_the_third_on_that_is_no_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is worse, but too early; the fourth is the first worse one after it."""
    first = replace(STAGES[0], until_worse=3)
    seen = tell(monkeypatch, [9.0, 7.0, 8.0, 6.0, 6.5, 20.0, 19.0])
    log = train(tmp_path, first, replace(STAGES[1], runs=4), every=4)
    assert [row["runs"] for row in log] == [0, 4, 8, 12, 16, 16, 20]
    assert [row["validation"] for row in log] == [9.0, 7.0, 8.0, 6.0, 6.5, 20.0, 19.0]
    assert [row["steps"] for row in log] == [8, 8, 8, 8, 8, 16, 16]
    assert [steps for steps, _ in seen] == [row["steps"] for row in log]
    phi = [each for _, each in seen]
    assert torch.equal(phi[5], phi[3]), "the best φ, once more, over the next phase's steps"
    assert not torch.equal(phi[5], phi[4])
    best = load_optimizer(tmp_path / "optimizer.safetensors").weights
    assert torch.equal(best, phi[6]), "19 is the best of its own steps"


def test_next_phase_goes_on_from_the_best_phi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tell(monkeypatch, [9.0, 5.0, 6.0, 20.0, 19.0])
    # At this rate φ hardly moves, so where it began is where it ends.
    train(tmp_path, STAGES[0], replace(STAGES[1], runs=4, rate=1e-7), every=4)
    assert (seen[2][1] - seen[1][1]).abs().max() > 0.01
    assert torch.allclose(seen[4][1], seen[1][1], atol=1e-5)


def test_phase_that_is_never_better_ends_training_with_the_best_phi_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tell(monkeypatch, [9.0, 5.0, 6.0, 20.0, 21.0, 22.0])
    log = train(tmp_path, *STAGES, every=4)
    assert [row["runs"] for row in log] == [0, 4, 8, 8, 12, 16], "no third phase"
    state = training_state(tmp_path)
    assert state.over
    assert torch.equal(load_optimizer(tmp_path / "optimizer.safetensors").phi, seen[1][1])
    about = about_optimizer(tmp_path / "optimizer.safetensors")
    assert (about["validation"], about["runs"]) == (20.0, 4)
    assert UNTRAINED not in about


def test_phase_that_is_never_better_than_before_training_leaves_the_optimizer_untrained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, [5.0, math.inf, 6.0])
    train(tmp_path, *STAGES, every=4)
    told = about_optimizer(tmp_path / "optimizer.safetensors")[UNTRAINED]
    assert told == "none of 2 validations was better than the one before training"


def test_phase_ends_after_its_runs_at_the_latest_and_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its one validation is no better, but from the second one on would that end anything."""
    tell(monkeypatch, [9.0, 10.0, 20.0, 19.0])
    short = [replace(each, runs=4) for each in STAGES[:2]]
    log = train(tmp_path, *short, every=4)
    assert [row["runs"] for row in log] == [0, 4, 4, 8]


def test_what_is_validated_once_more_is_the_best_phi_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An odd phase begins with the odd part of it, which nothing has validated."""
    seen = tell(monkeypatch, [9.0, 5.0, 6.0, 20.0, 21.0])
    train(tmp_path, STAGES[0], replace(STAGES[1], runs=4, odd=True), every=4)
    assert torch.equal(seen[3][1], seen[1][1])
    assert torch.equal(load_optimizer(tmp_path / "optimizer.safetensors").phi, seen[1][1])


def test_validations_over_the_same_steps_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, [9.0, 5.0, 6.0, 4.0, 4.5])
    stages = [replace(each, validation_steps=None, horizon=8) for each in STAGES[:2]]
    log = train(tmp_path, *stages, every=4)
    assert [row["runs"] for row in log] == [0, 4, 8, 12, 16]
    assert "steps" not in log[0], "they are those of all validations"


def test_runs_after_an_early_end_are_on_fresh_instances_and_count_as_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, [9.0, 5.0, 6.0, 20.0, 19.0, 19.5, 30.0, 29.0, 29.0])
    runs: list[range] = []
    plain = l2l.suite.meta.metatrain._update_over_run

    def spy(problem: Any, untrained: Any, phase: Phase, runs_: range, *given: Any) -> Any:
        runs.append(runs_)
        return plain(problem, untrained, phase, runs_, *given)

    monkeypatch.setattr(l2l.suite.meta.metatrain, "_update_over_run", spy)
    train(tmp_path, *STAGES, every=4)
    assert [run for each in runs for run in each] == list(range(24))
    assert [len(each) for each in runs] == 16 * [1] + 4 * [2]
    state = training_state(tmp_path)
    assert state.early == [8, 16, 24]
    windows = l2l.suite.meta.metatrain._windows(state, Schedule(STAGES), seed=1)
    assert windows == 8 * 1 + 8 * 2 + 4 * 4


def test_validation_is_of_the_phase_s_steps(tmp_path: Path) -> None:
    """Against evaluations of the untrained φ made here."""
    log = train(tmp_path, replace(STAGES[0], runs=1), replace(STAGES[1], runs=1), every=4)
    learner = untrained()
    losses = evaluate(PROBLEM, learner, 8, 6, 1, split="validation")
    assert log[0]["validation"] == losses[:, final_steps(8).start :].mean().item()
    best = [row for row in log if row["steps"] == 8]
    assert log[-2]["steps"] == 16 and len(best) == 2


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder, *REAL, every=4)
    return folder


def test_real_stages_end_early(undisturbed: Path) -> None:
    """What the next test interrupts is a curriculum, and not three phases of 40 runs."""
    state = training_state(undisturbed)
    assert state.early == [16, 28, 60] and not state.over
    assert {row["steps"] for row in log_of(undisturbed)} == {8, 16, 32}


@pytest.mark.parametrize("last", [4, 5, 7, 11])
def test_resume_equals_uninterrupted_run(tmp_path: Path, undisturbed: Path, last: int) -> None:
    """Killed with the `last` word of progress, again and again: also at ends of phases."""

    assert any(train_until(tmp_path, last, *REAL, every=4) for _ in range(200))
    assert outcome(tmp_path) == outcome(undisturbed)


def test_training_in_pieces_equals_one_in_one_go(tmp_path: Path, undisturbed: Path) -> None:
    for until in range(0, 120, 4):
        metatrain(PROBLEM, SPEC, training(*REAL, every=4), 1, tmp_path, until=until)
    assert outcome(tmp_path) == outcome(undisturbed)


@pytest.mark.parametrize("field", ["validation_steps", "until_worse"])
def test_numbers_that_cannot_be_are_refused(field: str) -> None:
    given = {"runs": 3, "horizon": 8, "estimator": FOUR, "rate": 0.1, field: 0}
    with pytest.raises(SuiteError, match=rf"p\.{field} is 0, but must be .*at least 1"):
        fill(Phase, given, "p")
