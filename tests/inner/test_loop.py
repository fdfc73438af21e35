"""The one loop: what it records, where it takes gradients, and what it does with divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from example_problems import Bowl, Cliff
from torch import Tensor

from l2l.optimizers.hand_designed.adam import Adam
from l2l.optimizers.hand_designed.nag import NAG
from l2l.optimizers.hand_designed.sgd import SGD
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Optimizer, Params, Tensors
from l2l.suite.inner.loop import descend, walk
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point, start

INSTANCES = list(range(16))
# Some of these instances fall off the cliff, and some do not.
CLIFF = Cliff(dim=1)


def run(problem: Any, optimizer: Optimizer, steps: int, instances: list[int]) -> list[Point]:
    objective = Objective(problem, instances, "test", 0)
    return walk(objective, optimizer, start(objective, optimizer), steps, whole=True)


def test_loss_may_be_a_view_of_theta() -> None:
    @dataclass(frozen=True)
    class Height(Bowl):
        def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
            return params["theta"][0]

    whole = run(Height(), SGD(lr=0.1), 4, [0, 1])
    points = list(descend(Objective(Height(), [0, 1], "test", 0), SGD(lr=0.1), 4))
    for one, other in zip(points, whole, strict=True):
        assert torch.equal(one.loss, other.loss)
        assert torch.equal(one.grads, other.grads)
    assert len({point.loss[0].item() for point in points}) == 5


def test_a_parameter_may_be_a_single_number() -> None:
    @dataclass(frozen=True)
    class Number(Bowl):
        def init(self, rng: Rng) -> Tensors:
            return {"theta": rng.normal(1).squeeze()}

    points = run(Number(), SGD(lr=1.0), 1, [0, 1])
    assert points[1].loss.abs().max() < 1e-12


def test_updates_of_more_precision_keep_it() -> None:
    class Precise(SGD):
        def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
            return super().update(grads.double(), state, params)

    whole = run(Bowl(), Precise(lr=0.1), 4, [0, 1])
    points = list(descend(Objective(Bowl(), [0, 1], "test", 0), Precise(lr=0.1), 4))
    assert torch.equal(points[-1].theta, whole[-1].theta)
    assert points[-1].theta.dtype == torch.float64


@pytest.mark.parametrize("optimizer", [SGD(lr=0.3), NAG(lr=0.02), Adam(lr=0.1)])
def test_points_that_share_memory_are_those_that_do_not(optimizer: Optimizer) -> None:
    objective = Objective(CLIFF, INSTANCES, "test", 0)
    whole = run(CLIFF, optimizer, 8, INSTANCES)
    for one, other in zip(descend(objective, optimizer, 8), whole, strict=True):
        assert torch.equal(one.theta, other.theta)
        assert torch.equal(one.loss, other.loss)
        assert torch.equal(one.grads, other.grads)
    first = start(objective, optimizer)
    window = walk(objective, optimizer, first, 8)
    assert window[0] is first
    for end in (0, -1):
        assert torch.equal(window[end].theta, whole[end].theta)
    assert all(torch.equal(a.grads, b.grads) for a, b in zip(window, whole, strict=True))


def test_first_loss_is_at_theta_0_and_one_follows_each_update() -> None:
    problem = Quadratic(dim=3)
    objective = Objective(problem, [4], "test", 0)
    points = run(problem, SGD(lr=0.01), 5, [4])
    assert [point.step for point in points] == [0, 1, 2, 3, 4, 5]
    assert torch.equal(points[0].theta, objective.start())
    for point in points:
        assert torch.allclose(point.loss, objective.value(point.theta, point.step))
    assert torch.equal(points[1].theta, points[0].theta - 0.01 * points[0].grads)


def test_each_step_has_its_own_minibatch() -> None:
    points = run(Cliff(), SGD(lr=0.0), 3, [0])
    assert len({point.loss.item() for point in points}) == 4


def test_diverged_run_is_recorded_as_infinite_and_frozen() -> None:
    points = run(CLIFF, SGD(lr=0.3), 8, INSTANCES)
    alive = torch.stack([point.alive for point in points])
    losses = torch.stack([point.loss for point in points])
    assert 0 < alive[-1].sum() < len(INSTANCES)
    assert torch.equal(losses.isfinite(), alive)
    assert not (alive[1:] & ~alive[:-1]).any(), "none comes back"
    for before, after in pairwise(points):
        dead = ~before.alive
        assert torch.equal(after.theta[dead], before.theta[dead])
        assert not after.grads[~after.alive].any()


@pytest.mark.parametrize("optimizer", [SGD(lr=0.3), NAG(lr=0.02), Adam(lr=0.1)])
def test_diverged_run_does_not_disturb_the_others(optimizer: Optimizer) -> None:
    together = run(CLIFF, optimizer, 8, INSTANCES)
    survivors = together[-1].alive.nonzero().flatten().tolist()
    assert 0 < len(survivors) < len(INSTANCES)
    alone = run(CLIFF, optimizer, 8, survivors)
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one.theta[survivors], other.theta)
        assert torch.equal(one.loss[survivors], other.loss)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_any_loss_that_is_not_finite_is_divergence(bad: float) -> None:
    @dataclass(frozen=True)
    class Hole(Bowl):
        def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
            inside = params["theta"].abs().sum() > 0.5
            return torch.where(inside, bad, super().loss(params, instance, batch))

    losses = [point.loss.item() for point in run(Hole(), SGD(lr=0.3), 6, [0])]
    assert math.isfinite(losses[0])
    assert losses[-1] == math.inf


def test_run_that_would_have_come_back_stays_where_it_fell() -> None:
    """Its momentum would carry it through the gap, to where the loss is finite again."""

    @dataclass(frozen=True)
    class Gap(Bowl):
        def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
            theta = params["theta"].squeeze()
            inside = (theta > 0.2) & (theta < 0.5)
            return torch.where(inside, torch.nan, super().loss(params, instance, batch))

    points = run(Gap(), NAG(lr=0.1), 8, [0, 1, 2])
    for row in range(3):
        alive = [point.alive[row].item() for point in points]
        fall = alive.index(False)
        assert alive == [True] * fall + [False] * (len(points) - fall)
        for point in points[fall:]:
            assert point.loss[row] == math.inf
            assert torch.equal(point.theta[row], points[fall].theta[row])


def test_minibatch_on_which_the_loss_is_finite_again_brings_no_run_back() -> None:
    @dataclass(frozen=True)
    class Flaky(Bowl):
        def batch(self, rng: Rng) -> Tensor:
            return rng.uniform()

        def loss(self, params: Tensors, instance: Tensors, batch: Tensor) -> Tensor:
            bad = (batch < 0.2) & (params["theta"].abs().sum() > 0.05)
            return torch.where(bad, torch.nan, super().loss(params, instance, None))

    alive = torch.stack([p.alive for p in run(Flaky(), SGD(lr=0.1), 20, INSTANCES)])
    assert 0 < alive[5].sum() < alive[0].sum()
    assert torch.equal(alive.cummin(0).values, alive)


def test_overflowing_updates_are_divergence_and_no_error() -> None:
    points = run(Quadratic(dim=3), SGD(lr=1e30), 4, [0, 1])
    assert torch.equal(points[-1].loss, torch.tensor([math.inf, math.inf]))


@dataclass(frozen=True)
class Unstartable(Bowl):
    """Has no finite value at θ_0 in one instance."""

    bad: float = math.nan

    def instance(self, rng: Rng) -> Tensors:
        y = super().instance(rng)["y"]
        chosen = torch.equal(y, Bowl().instance(Rng(0, "test/instance", 7))["y"])
        return {"y": y * self.bad if chosen else y}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_loss_that_is_not_finite_at_theta_0_names_the_instance(bad: float) -> None:
    with pytest.raises(SuiteError, match="Unstartable: the loss of instance 7 is not finite at θ"):
        run(Unstartable(bad=bad), SGD(lr=0.1), 3, [2, 7, 4])
    assert run(Unstartable(bad=bad), SGD(lr=0.1), 3, [2, 4])[-1].alive.all()


def test_gradient_that_is_not_finite_at_the_start_is_told() -> None:
    """Where the loss is: otherwise the run would look like one that diverged."""

    @dataclass(frozen=True)
    class Cusp(Bowl):
        def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
            bowl = super().loss(params, instance, batch)
            return torch.where(instance["y"] > 1.5, (0 * bowl).sqrt() + bowl, bowl).sum()

    with pytest.raises(
        SuiteError, match=r"Cusp: the gradient of instance \d+ is not finite at θ_0"
    ):
        run(Cusp(), SGD(0.1), 1, INSTANCES)


def test_instance_is_named_rightly_in_a_sweep_too() -> None:
    objective = Objective(Unstartable(), [2, 7, 4], "test", 0, copies=3)
    with pytest.raises(SuiteError, match="instance 7 is not finite"):
        list(descend(objective, SGD(lr=0.1), 3))


def test_nags_loss_is_at_the_iterate_and_its_gradient_at_the_lookahead_point() -> None:
    objective = Objective(Cliff(), [1], "test", 0)
    points = run(Cliff(), NAG(lr=0.02), 6, [1])
    for point in points[2:]:
        ahead = point.theta + 0.9 * point.state
        assert (ahead - point.theta).abs().min() > 1e-3
        assert torch.equal(point.loss, objective.value(point.theta, point.step))
        _, grads = objective.value_and_grad(ahead, point.step)
        assert torch.equal(point.grads, grads)


def test_copies_share_instances_and_minibatches() -> None:
    """Row c·n + i is copy c of instance i."""
    rates = [0.01, 0.1]
    column = torch.tensor(rates).repeat_interleave(2).unsqueeze(1)
    objective = Objective(Cliff(), [3, 5], "test", 0, copies=2)
    together = list(descend(objective, SGD(lr=column), 4))
    for copy, rate in enumerate(rates):
        alone = run(Cliff(), SGD(lr=rate), 4, [3, 5])
        for one, other in zip(together, alone, strict=True):
            assert torch.allclose(one.loss.view(2, 2)[copy], other.loss)
