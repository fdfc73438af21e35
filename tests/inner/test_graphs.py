"""A gradient whose operations are kept as a graph is the one that `vmap` gives, bit for bit."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from example_problems import Cliff
from torch import Tensor, nn

from l2l import Problem, Rng, Tensors
from l2l.optimizers.hand_designed.nag import NAG
from l2l.problems.module import ModuleProblem
from l2l.suite.inner import graphs, objective
from l2l.suite.inner.graphs import Graphs, graphs_of
from l2l.suite.inner.loop import descend
from l2l.suite.inner.objective import Objective

NEVER = 10**9
STEPS = 12


@dataclass(frozen=True)
class Logistic(Problem):
    """Logistic regression on minibatches of an instance's own rows."""

    def instance(self, rng: Rng) -> Tensors:
        x = rng.normal(50, 4)
        return {"x": x, "y": (x @ rng.normal(4) > 0).float()}

    def init(self, rng: Rng) -> Tensors:
        return {"w": 0.1 * rng.normal(4), "b": torch.zeros(())}

    def batch(self, rng: Rng) -> Tensor:
        return rng.integers(50, 8)

    def loss(self, params: Tensors, instance: Tensors, batch: Tensor) -> Tensor:
        logits = instance["x"][batch] @ params["w"] + params["b"]
        return F.binary_cross_entropy_with_logits(logits, instance["y"][batch])


class Whole(Logistic):
    """On all rows at once, so without minibatches."""

    def batch(self, rng: Rng) -> None:
        return None

    def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        return super().loss(params, instance, torch.arange(50))


class Growing(Logistic):
    """Minibatches of another size at each step."""

    def batch(self, rng: Rng) -> Tensor:
        return rng.integers(50, int(rng._generator.bit_generator.state["state"]["counter"][2]) + 1)


class Straight(torch.autograd.Function):
    """Rounds; its gradient is as if it did not."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Rounded(Logistic):
    """With a backward pass of its own, and a part that has no gradient."""

    def loss(self, params: Tensors, instance: Tensors, batch: Tensor) -> Tensor:
        with torch.no_grad():
            scale = params["w"].norm()
        w = Straight.apply(4 * params["w"]) * scale / (1 + params["w"].detach().square())
        return super().loss({**params, "w": w}, instance, batch)


@dataclass(frozen=True)
class Network(ModuleProblem):
    """A module with a normalisation and a buffer."""

    def module(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))

    def batch(self, rng: Rng) -> Tensors:
        return {"x": rng.normal(6, 3), "y": rng.integers(2, 6)}


class Branching(Logistic):
    """With a branch on the value of a tensor that is no argument, which `vmap` takes."""

    def loss(self, params: Tensors, instance: Tensors, batch: Tensor) -> Tensor:
        factor = 2 if torch.arange(3).sum() > 2 else 1
        return factor * super().loss(params, instance, batch)


class Counting(Logistic):
    """Changes with each call, which no loss shall: a graph would hold on to one call's number."""

    calls = 0

    def loss(self, params: Tensors, instance: Tensors, batch: Tensor) -> Tensor:
        Counting.calls += 1
        return super().loss(params, instance, batch) * (1 + 0.1 * Counting.calls)


def losses(problem: Problem, monkeypatch: pytest.MonkeyPatch, calls: int, copies: int) -> Tensor:
    monkeypatch.setattr(graphs, "CALLS", calls)
    Counting.calls = 0
    made = Objective(problem, range(3), "test", 0, copies)
    # Its loss and its gradient are taken at two points.
    return torch.stack([point.loss for point in descend(made, NAG(0.3), STEPS)])


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize(
    ("kind", "traced"),
    [(Logistic, 2), (Whole, 2), (Cliff, 2), (Rounded, 2), (Network, 2), (Growing, 0)],
)
def test_numbers_are_the_same_bits(
    kind: Callable[[], Problem], traced: int, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = losses(kind(), monkeypatch, NEVER, copies)
    problem = kind()
    assert torch.equal(losses(problem, monkeypatch, 3, copies), expected)
    assert expected[0].isfinite().all()
    kept = graphs_of(problem)._kept.values()
    assert sum(each._graph is not None for each in kept) == traced


@pytest.mark.parametrize("kind", [Branching, Counting])
def test_what_a_graph_would_compute_otherwise_is_not_computed_by_one(
    kind: Callable[[], Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = losses(kind(), monkeypatch, NEVER, 1)
    problem = kind()
    found = losses(problem, monkeypatch, 3, 1)
    if kind is Counting:
        # Tracing and comparing are calls too.
        assert torch.equal(found[:2], expected[:2])
        assert all(each._graph is None for each in graphs_of(problem)._kept.values())
        assert Counting.calls > 2 * STEPS
    else:
        assert torch.equal(found, expected)


def test_loss_is_not_called_once_it_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "CALLS", 3)
    problem = Logistic()
    made = Objective(problem, range(3), "test", 0)
    theta = made.start()
    for step in range(3 + graphs.CHECKS):
        made.value_and_grad(theta, step)
    expected = made.value_and_grad(theta, 99)

    def refuse(*_: Any) -> Tensor:
        raise AssertionError("the loss is called")

    monkeypatch.setattr(Logistic, "loss", refuse)
    for each in (made, Objective(problem, range(3), "test", 0)):
        assert all(map(torch.equal, each.value_and_grad(theta, 99), expected))
    with pytest.raises(AssertionError, match="is called"):
        Objective(Logistic(), range(3), "test", 0).value_and_grad(theta, 99)


def test_run_alone_takes_no_vmap(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Objective(Logistic(), range(2), "test", 0)
    theta = both.start()
    expected_losses, expected_grads = both.value_and_grad(theta, 5)
    monkeypatch.setattr(objective, "vmap", None)
    for i in range(2):
        alone = Objective(Logistic(), [i], "test", 0)
        row = theta[i : i + 1].clone()
        loss, grads = alone.value_and_grad(row, 5)
        torch.testing.assert_close(loss, expected_losses[i : i + 1])
        torch.testing.assert_close(grads, expected_grads[i : i + 1])
        assert torch.equal(alone.value(row, 5), loss)
        row.requires_grad_()
        again = alone.value_and_grad(row, 5)[1]
        (hessian_row,) = torch.autograd.grad(again[0, 0], row)
        torch.testing.assert_close(again, grads)
        assert hessian_row.norm() > 0


def test_graphs_go_with_their_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    problem: Problem | None = Logistic()
    number = id(problem)
    losses(problem, monkeypatch, 3, 1)
    assert graphs_of(Logistic()) is not graphs_of(problem)
    assert number in graphs._graphs
    problem = None
    gc.collect()
    assert number not in graphs._graphs


def test_ever_new_layouts_keep_only_so_many_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "CALLS", 1)
    kept = Graphs()
    for size in range(1, graphs.MOST + 4):
        assert kept.call("sum", torch.sum, torch.ones(size)) == size
    assert len(kept._kept) == graphs.MOST
