"""Evaluation on fresh instances: which ones, at which points, and independent of the grouping."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from example_problems import Bowl

from l2l.optimizers.hand_designed.adam import Adam
from l2l.optimizers.hand_designed.nag import NAG
from l2l.optimizers.hand_designed.sgd import SGD
from l2l.optimizers.learned.lstm import LSTM
from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import ParamSpec
from l2l.suite.inner.evaluate import evaluate
from l2l.suite.inner.loop import descend
from l2l.suite.inner.memory import BUDGET, rows_at_once
from l2l.suite.inner.objective import Objective, param_spec


def lstm() -> LSTM:
    optimizer = LSTM(hidden=4)
    return optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))


def test_losses_are_those_of_the_loop_after_0_to_all_updates() -> None:
    losses = evaluate(Quadratic(), SGD(0.01), 7, 5, seed=3)
    assert losses.shape == (5, 8)
    points = descend(Objective(Quadratic(), range(5), "test", 3), SGD(0.01), 7)
    assert torch.equal(losses, torch.stack([point.loss for point in points], dim=1))


def test_seed_split_and_instance_decide_the_function() -> None:
    base = evaluate(Quadratic(), SGD(0.01), 2, 4, seed=3)
    assert torch.equal(base, evaluate(Quadratic(), SGD(0.01), 2, 4, seed=3))
    for other in (
        evaluate(Quadratic(), SGD(0.01), 2, 4, seed=4),
        evaluate(Quadratic(), SGD(0.01), 2, 4, seed=3, split="validation"),
        evaluate(Quadratic(), SGD(0.01), 2, range(4, 8), seed=3),
    ):
        assert not torch.isin(base[:, 0], other[:, 0]).any()


def test_chosen_instances_are_those_of_a_full_run() -> None:
    every = evaluate(Quadratic(), Adam(0.1), 5, 6, seed=3)
    some = evaluate(Quadratic(), Adam(0.1), 5, [4, 1], seed=3)
    torch.testing.assert_close(some, every[[4, 1]])


def test_optimizers_start_from_the_same_losses() -> None:
    starts = [
        evaluate(MLP(units=3), optimizer, 1, 3, seed=0)[:, 0]
        for optimizer in (SGD(0.1), NAG(0.1), Adam(0.1), lstm())
    ]
    assert all(torch.equal(starts[0], other) for other in starts[1:])


@pytest.mark.parametrize("optimizer", [SGD(0.5), Adam(0.05), lstm()], ids=["sgd", "adam", "lstm"])
def test_memory_budget_splits_the_runs_and_changes_no_number(
    optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = MLP(units=3, batch_size=16)
    whole = evaluate(problem, optimizer, 6, 5, seed=1)
    monkeypatch.setenv(BUDGET, "1")
    monkeypatch.setattr("l2l.suite.inner.memory.OTHERS", 300)
    assert rows_at_once(param_spec(problem), optimizer, torch.device("cpu")) == 1
    split = evaluate(problem, optimizer, 6, 5, seed=1)
    torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-6)


def test_diverged_runs_are_infinite_and_the_others_unharmed() -> None:
    rates = torch.tensor([0.1, 50.0]).unsqueeze(1)
    losses = evaluate(Bowl(), SGD(rates), 60, 2, seed=0)
    assert losses[0].isfinite().all()
    assert losses[1, -1] == torch.inf
    assert not losses.isnan().any()


def test_nothing_of_a_run_is_kept_for_autograd() -> None:
    rates = torch.full((2, 1), 0.01, requires_grad=True)
    assert not evaluate(Quadratic(), NAG(rates), 2, 2, seed=0).requires_grad


@pytest.mark.parametrize("budget", ["-1", "0", "much", "1.5", "²"])
def test_wrong_memory_budget_is_one_sentence(budget: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BUDGET, budget)
    with pytest.raises(SuiteError, match=f"{BUDGET} must be a whole number of MiB from 1"):
        evaluate(Quadratic(), SGD(0.01), 1, 1, seed=0)


def test_memory_budget_sets_how_many_rows_run_side_by_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    spec, large = (ParamSpec({"w": torch.Size([size])}) for size in (1000, 10**9))
    by_machine = rows_at_once(spec, SGD(0.1), cpu)
    monkeypatch.setenv(BUDGET, "100")
    # SGD keeps nothing; this LSTM 16 numbers a parameter, and as many for the next step.
    assert rows_at_once(spec, SGD(0.1), cpu) == 100 * 2**20 // 32_000
    assert rows_at_once(spec, lstm(), cpu) == 100 * 2**20 // 160_000
    # As ADAM, but for a count of the updates.
    of_torch = optimizers.make({"name": "torch", "optimizer": "torch.optim.Adam", "lr": 0.1})
    assert rows_at_once(spec, of_torch, cpu) == 100 * 2**20 // (32_000 + 2 * 8_004)
    assert rows_at_once(large, SGD(0.1), cpu) == 1
    monkeypatch.setenv(BUDGET, "")
    assert rows_at_once(spec, SGD(0.1), cpu) == by_machine
