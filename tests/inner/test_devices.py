"""What runs on a GPU: the same numbers as on the CPU, without waiting for any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from l2l.optimizers.hand_designed.adam import Adam
from l2l.optimizers.hand_designed.nag import NAG
from l2l.optimizers.hand_designed.rmsprop import RMSprop
from l2l.optimizers.hand_designed.sgd import SGD
from l2l.optimizers.kernels import dispatch, library, operators
from l2l.optimizers.learned import lstm as lstm_module
from l2l.optimizers.learned.checkpoint import load_optimizer
from l2l.optimizers.learned.lstm import LSTM
from l2l.problems.convnet import ConvNet
from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Optimizer, Problem
from l2l.suite.inner import loop, step
from l2l.suite.inner.evaluate import evaluate
from l2l.suite.inner.objective import Objective
from l2l.suite.meta.estimators.second_order import second_order_gradient
from l2l.suite.meta.estimators.truncated import window_gradient
from l2l.suite.meta.meta_loss import loss_weights
from l2l.suite.meta.metatrain import metatrain
from l2l.suite.meta.schedule import Phase, Schedule

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

PROBLEMS: dict[str, Problem] = {
    "quadratic": Quadratic(),
    "mlp": MLP(units=5, batch_size=8),
    "convnet": ConvNet(dataset="mnist", layers=2, channels=4, units=4, batch_size=8),
}


def lstm(device: str = "cpu") -> LSTM:
    optimizer = LSTM(hidden=20)
    return optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")).to(device))


OPTIMIZERS: dict[str, Any] = {
    "lstm": lstm,
    "adam": lambda device: Adam(0.01),
    "nag": lambda device: NAG(0.01),
    "rmsprop": lambda device: RMSprop(torch.full((2, 1), 0.01, device=device)),
    "sgd": lambda device: SGD(0.01),
}


def some_steps(problem: Problem, optimizer: Optimizer, device: str) -> step.Point:
    """The loop from the first evaluation on, without the check of θ_0 before it."""
    objective = Objective(problem, range(2), "test", 0, device=device)
    theta = objective.start()
    with theta.device:
        state = optimizer.init(objective.spec, objective.rows)
    alive = torch.ones(objective.rows, dtype=torch.bool, device=device)
    point = step._evaluated(objective, optimizer, 0, theta, state, alive, intact=False)
    return loop.walk(objective, optimizer, point, 3)[-1]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_no_step_waits_for_a_number(
    problem: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors on the device `meta` have no values, so whatever asks for one fails."""
    # As on a GPU, by the operators; they know such tensors.
    monkeypatch.setattr(lstm_module, "kernel_for", lambda *_: operators)
    for module in (library, operators):
        monkeypatch.setattr(module, "expect_into", lambda *_: None)
    point = some_steps(PROBLEMS[problem], OPTIMIZERS[optimizer]("meta"), "meta")
    assert point.step == 3
    assert point.loss.device.type == "meta"
    with pytest.raises(RuntimeError, match="meta"):
        point.loss.sum().item()


@needs_gpu
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_no_step_waits_for_the_gpu(problem: str, optimizer: str) -> None:
    made = OPTIMIZERS[optimizer]("cuda")
    some_steps(PROBLEMS[problem], made, "cuda")  # compiles, and moves data there
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        some_steps(PROBLEMS[problem], made, "cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("problem", ["mlp", "convnet"])
def test_minibatches_of_all_instances_are_each_ones_own(problem: str) -> None:
    rngs = [Rng(0, "test/batch", i, 7) for i in range(3)]
    many = PROBLEMS[problem].batches(rngs, torch.device("cpu"))
    for i in range(3):
        own = PROBLEMS[problem].batch(Rng(0, "test/batch", i, 7))
        assert all(torch.equal(many[name][i], own[name]) for name in ("x", "y"))


@needs_gpu
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_runs_are_those_of_the_cpu(problem: str, optimizer: str) -> None:
    steps, n = 5, 2
    here = evaluate(PROBLEMS[problem], OPTIMIZERS[optimizer]("cpu"), steps, n, 3)
    there = evaluate(PROBLEMS[problem], OPTIMIZERS[optimizer]("cuda"), steps, n, 3, "cuda")
    torch.testing.assert_close(there, here, rtol=2e-3, atol=1e-5)


@needs_gpu
@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_meta_gradient_is_that_of_the_cpu(problem: str, second_order: bool) -> None:
    def gradient(device: str) -> Tensor:
        optimizer = lstm(device)
        objective = Objective(PROBLEMS[problem], range(2), "train", 0, device=device)
        with torch.no_grad():
            begin = step.start(objective, optimizer)
            points = loop.walk(objective, optimizer, begin, 4, whole=second_order)
            weights = loss_weights(points, "loss")
            if second_order:
                return second_order_gradient(optimizer, objective, points, weights).cpu()
            return window_gradient(optimizer, points, weights, Rng(0, "unused")).cpu()

    here, there = gradient("cpu"), gradient("cuda")
    assert (there - here).norm() <= 5e-3 * here.norm()


@needs_gpu
def test_resumed_training_is_the_uninterrupted_one(tmp_path: Path) -> None:
    estimator = {"name": "truncated", "window": 5, "sample": 50}
    phases = (Phase(runs=12, horizon=10, estimator=estimator, rate=0.01, batch=2, clip=True),)
    spec = {"name": "lstm", "hidden": 20}
    training = Schedule(phases, validate_every=4, validation_instances=2)
    for name, stops in (("whole", (None,)), ("resumed", (4, 8, None))):
        (tmp_path / name).mkdir()
        for until in stops:
            metatrain(PROBLEMS["mlp"], spec, training, 1, tmp_path / name, "cuda", until=until)
    whole, resumed = (
        load_optimizer(tmp_path / name / "optimizer.safetensors").phi
        for name in ("whole", "resumed")
    )
    assert torch.equal(whole, resumed)


@needs_gpu
def test_kernel_is_taken() -> None:
    phi = lstm("cuda").phi
    assert dispatch.kernel_for(lstm().layout, phi) is operators
