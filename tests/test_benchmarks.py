"""The benchmarks run, and compare what they say they do; nothing here is about speed."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from benchmarks import small, updates, window
from benchmarks.convnet import Plain, convnet
from benchmarks.from_torch import from_torch
from benchmarks.in_jax import window_in_jax
from benchmarks.sweeps import BASELINES, PlainQuadratic, sweep
from benchmarks.wrapper import wrapper
from l2l.optimizers.kernels import reference
from l2l.problems.convnet import ConvNet
from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.seeds import Rng
from l2l.suite.inner.loop import walk
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import start
from l2l.suite.meta.estimators.truncated import window_gradient
from l2l.suite.meta.meta_loss import loss_weights


def finite(table: pd.DataFrame) -> bool:
    return bool((table.select_dtypes("number") > 0).all(axis=None))


def test_window_in_a_process_of_its_own() -> None:
    table = window.windows(1, [(1, 2)], ["fused"])
    assert table.parameters.tolist() == [805]
    assert table.fused_is_faster_by.tolist() == [1]


@pytest.mark.parametrize("way", ["autograd", "reference"])
def test_ways_take_the_reference_kernel(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    step = reference.step
    monkeypatch.setattr(reference, "step", lambda *args: calls.append(1) or step(*args))  # type: ignore[func-returns-value]
    training, evaluation, _, _ = window.measure(way, 1, 2, 1)
    assert training > 0
    assert evaluation > 0
    assert calls


@torch.no_grad()
def test_window_in_jax_has_the_same_meta_gradient() -> None:
    """The whole window, written independently in another framework, where JAX is installed."""
    pytest.importorskip("jax")
    objective, optimizer = Objective(MLP(units=3), [0], "train", 0), window.learned()
    points = walk(objective, optimizer, start(objective, optimizer), 6)
    ours = window_gradient(optimizer, points, loss_weights(points, "loss"), Rng(0, "unused"))
    theirs = window_in_jax(objective, optimizer, 6)()
    assert (ours - theirs).norm() < 1e-5 * ours.norm()


def test_updates() -> None:
    assert finite(updates.quadratics(1, 2))
    assert finite(updates.batches(1, units=1, batch=2))


def test_convnet_is_with_the_gradient_by_hand_and_without() -> None:
    table = convnet(1, "mnist")
    ways = ["plain PyTorch", "fused", "convolutions alone"]
    product = "Hessian times a vector"
    assert table.way.tolist() == [*ways, f"{product}, plain PyTorch", product]
    assert table.over_fused[1] == pytest.approx(1)
    assert finite(table)
    by_hand, plain = (
        Objective(kind(dataset="mnist"), [0], "train", 0) for kind in (ConvNet, Plain)
    )
    assert by_hand._grads_and_losses == by_hand._grads_and_losses_by_hand
    assert plain._grads_and_losses == plain._grads_and_losses_one_by_one


def test_classes_of_torch_optim() -> None:
    table = from_torch(1, 1, steps=2)
    adamw, adafactor = (["AdamW", "AdamW fused"], ["Adafactor", "Adafactor foreach"])
    assert table.optimizer.tolist() == ["SGD", *adamw, "NAdam", *adafactor]
    assert finite(table)


def test_sweep_has_a_row_for_each_baseline_and_their_sum() -> None:
    table = sweep("quadratics", Quadratic(dim=2), PlainQuadratic, 2, 1, 1)
    assert table.baseline.tolist() == [*BASELINES, "all"]
    assert finite(table)


def test_small_problem_is_the_same_function_by_hand() -> None:
    kinds = (small.Logistic, small.OnMinibatches)
    for runs, kind in ((runs, kind) for runs in (1, 3) for kind in kinds):
        objective = Objective(kind(), range(runs), "train", 0)
        _, grads = objective.value_and_grad(objective.start(), 0)
        weight, bias = small.by_hand(objective)()  # type: ignore[misc]
        by_hand = torch.cat([weight.reshape(runs, -1), bias.reshape(runs, 1)], dim=1)
        torch.testing.assert_close(by_hand, grads)
        by_vmap, _ = small.by_vmap(objective)()  # type: ignore[misc]
        torch.testing.assert_close(by_vmap[0], grads)


def test_small() -> None:
    table = small.small(1, runs=(1, 2), windows=1)
    assert table.minibatch.tolist()[::7] == ["none", 32, "none", 32]
    assert finite(table)


def test_wrapper() -> None:
    table = wrapper(1, parameters=2000)
    assert table.over_kernel[0] == pytest.approx(1)
    assert finite(table)
