"""Runs at different steps of their horizons, which take turns in updating φ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from moved import moved
from planned_training import planned
from test_metatrain import PROBLEM, SPEC, Outcome, outcome, train, train_until, training_state
from torch import Tensor

from l2l.optimizers.hand_designed.adam import Adam
from l2l.problems.mlp import MLP
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import estimators, optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import ParamSpec, Problem
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import advance, start
from l2l.suite.meta.ages import in_turns
from l2l.suite.meta.estimators.second_order import second_order_gradient
from l2l.suite.meta.estimators.truncated import window_gradient
from l2l.suite.meta.meta_loss import loss_weights
from l2l.suite.meta.schedule import Horizon, Imitation, Phase

TRUNCATED = {"name": "truncated", "window": 3}


def turns(windows: list[int], ages: int, shortest: int) -> list[str]:
    """Runs with so many windows each, named by letters: which one has the next window, in order."""
    seen: list[str] = []

    def run(number: int) -> Iterator[None]:
        for window in range(windows[number]):
            if window:
                yield
            seen.append(chr(ord("a") + number))

    ended = list(in_turns([run(number) for number in range(len(windows))], ages, shortest))
    assert sorted(ended) == list(range(len(windows)))
    return seen


@pytest.mark.parametrize(
    ("windows", "ages", "expected"),
    [
        # One round a word.
        ([4] * 3, 1, "a a a a b b b b c c c c"),
        ([4] * 4, 2, "a a ab ab cb cb cd cd d d"),
        ([4] * 6, 4, "a ab abc abcd ebcd efcd efd ef f"),
        ([3] * 2, 3, "a ab ab b"),
        # The next run begins in the place of one that has ended.
        ([4, 1, 2, 3], 2, "a a ab ac dc d d"),
    ],
)
def test_runs_take_turns(windows: list[int], ages: int, expected: str) -> None:
    found = turns(windows, ages, windows[0])
    assert "".join(found) == expected.replace(" ", "")
    assert [found.count(each) for each in sorted(set(found))] == windows


def by_hand(problem: Problem, name: str, order: str, batch: int, seed: int = 1) -> Tensor:
    """φ after the windows of runs in this order, each run with 12 steps and a state of its own."""
    learner: Any = optimizers.make(SPEC)
    phi = learner.initial_weights(Rng(seed, "phi"))
    adam = Adam(0.02)
    moments: Any = adam.init(ParamSpec({"phi": phi.shape}), 1)
    runs: dict[str, Any] = {}
    for letter in order:
        if letter not in runs:
            first = batch * (ord(letter) - ord("a"))
            objective = Objective(problem, range(first, first + batch), "train", seed)
            runs[letter] = objective, start(objective, learner.with_weights(phi))
        objective, point = runs[letter]
        points = [point]
        for _ in range(3):
            points.append(advance(objective, learner.with_weights(phi), points[-1]))
        runs[letter] = objective, points[-1]
        weights, moving = loss_weights(points, "loss"), learner.with_weights(phi)
        if name == "second_order":
            gradient = second_order_gradient(moving, objective, points, weights)
        else:
            gradient = window_gradient(moving, points, weights, Rng(0, "x"))
        update, moments = moved(adam, gradient.unsqueeze(0), moments)
        phi = phi + update[0]
    assert all(point.step == 12 for _, point in runs.values())
    return phi


@pytest.mark.parametrize("name", ["truncated", "second_order"])
@pytest.mark.parametrize("problem", [PROBLEM, MLP(units=2, batch_size=4)], ids=["quad", "mlp"])
@pytest.mark.parametrize("batch", [1, 2])
def test_training_equals_a_plain_loop_over_runs_in_turns(
    tmp_path: Path, problem: Problem, name: str, batch: int
) -> None:
    """Bit for bit: the MLP's minibatches depend on the step of each run."""
    phase = Phase(6 * batch, 12, {"name": name, "window": 3}, 0.02, batch=batch, ages=4)
    with torch.no_grad():
        train(tmp_path, phase, problem=problem, every=6 * batch)
        found = training_state(tmp_path)
        order = "a ab abc abcd ebcd efcd efd ef f".replace(" ", "")
        expected = by_hand(problem, name, order, batch)
    assert torch.equal(found.weights, expected)


def test_all_runs_end_before_a_validation(tmp_path: Path) -> None:
    """Two validations, each after three runs of four windows."""
    phase = Phase(6, 12, TRUNCATED, 0.02, ages=2)
    train(tmp_path, phase, every=3)
    found = training_state(tmp_path)
    with torch.no_grad():
        expected = by_hand(PROBLEM, "truncated", "aaababcbcbcc" + "dddedefefeff", 1)
    assert torch.equal(found.weights, expected)


MANY = (
    Phase(24, 12, TRUNCATED, 0.02, ages=3, clip=True, average=0.7, rate_end=0.001, patience=1),
    Phase(26, Horizon(3, 30), TRUNCATED, 0.01, ages=2, batch=2, method="soap"),
    Phase(12, 12, {"name": "second_order", "window": 3}, 0.01, ages=4, until_worse=1),
    Phase(6, 12, {"name": "pes", "window": 3, "pairs": 2}, 0.01, ages=3),
    Phase(6, 12, TRUNCATED, 0.01, ages=3, imitate=Imitation({"name": "sgd", "lr": 0.01}, 0.5)),
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder, *MANY, every=6)
    return outcome(folder)


@pytest.mark.parametrize("last", [6, 7, 9, 14])
def test_resume_equals_uninterrupted_run(tmp_path: Path, undisturbed: Outcome, last: int) -> None:
    assert any(train_until(tmp_path, last, *MANY, every=6) for _ in range(100))
    assert outcome(tmp_path) == undisturbed


def test_each_run_has_the_windows_and_the_training_loss_that_it_has_alone(tmp_path: Path) -> None:
    """At a rate at which φ hardly moves, only the order of windows differs."""
    phase = Phase(8, Horizon(3, 30), TRUNCATED, 1e-9)
    alone = train(tmp_path / "alone", phase, every=8)
    beside = train(tmp_path / "beside", replace(phase, ages=3), every=8)
    assert beside[-1]["train"] == pytest.approx(alone[-1]["train"], rel=1e-5)
    states = [training_state(tmp_path / name) for name in ("alone", "beside")]
    assert states[0].moments["updates"] == states[1].moments["updates"]
    assert states[0].moments["updates"] == sum(
        len(estimators.make(TRUNCATED).windows(phase.steps(1, run))) for run in range(8)
    )


def test_ages_are_part_of_the_key_only_where_they_are_given(tmp_path: Path) -> None:
    without = planned(tmp_path)
    assert "ages" not in without.config["training"]["phases"][0]
    assert planned(tmp_path, "phases.0.ages=4").key != without.key


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["ages=1"], "ages is 1, but must be a whole number, at least 2"),
        (["ages=5"], "ages is 5, but must be at most 4, the windows of a run of 12 steps"),
        (["ages=2", "estimator={name: nres}"], "ages is 2, but must be at most 1, the windows of"),
        (
            ["ages=4", "batch=4"],
            "validate_every is 8, but must be at least 16 (ages × batch)",
        ),
        (["ages=4", "runs=3"], "the runs of the phase is 3, but must be at least 4"),
    ],
)
def test_ages_that_cannot_be_are_refused_while_planning(
    tmp_path: Path, settings: list[str], told: str
) -> None:
    with pytest.raises(SuiteError) as refused:
        planned(tmp_path, *(f"phases.0.{setting}" for setting in settings))
    assert told in str(refused.value)
    assert "phases[0].ages" in str(refused.value)
