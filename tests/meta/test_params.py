"""Optimizers see the iterate: in the loop, in traces, and in the meta-gradient."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import pytest
import torch
from example_problems import InDouble
from torch import Tensor

from l2l.optimizers.hand_designed.nag import NAG
from l2l.optimizers.layout import Layout
from l2l.optimizers.learned.base import Learned
from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Optimizer, Params, ParamSpec
from l2l.suite.inner.loop import descend, walk
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import start
from l2l.suite.inner.trace import replay, trace
from l2l.suite.inner.trace_settings import Trace
from l2l.suite.meta.estimators.second_order import second_order_gradient
from l2l.suite.meta.estimators.truncated import window_gradient
from l2l.suite.meta.meta_loss import loss_weights

SMALL = MLP(dataset="mnist", units=2, batch_size=4)
INSTANCES = [0, 1]
STEPS = 5


@dataclass(frozen=True)
class Two(Layout):
    """φ: how strongly gradients and how strongly θ pull."""

    def parameters(self) -> dict[str, torch.Size]:
        return {"pull": torch.Size([2])}


@dataclass(frozen=True)
class Pulled(Learned):
    """m ← m/2 + tanh(∇), θ ← θ − φ₀ m − φ₁ sin θ: it decays weights, more or less."""

    @property
    def layout(self) -> Two:
        return Two()

    def init(self, spec: ParamSpec, n: int) -> Any:
        return self.phi.new_zeros(n * spec.size)

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        state = 0.5 * state + grads.flatten().tanh()
        pull = self.phi[0] * state.view_as(grads) + self.phi[1] * params.theta.sin()
        return -pull, state


class PulledAlone(Pulled):
    """The same, said to have coordinates that do not meet."""

    coordinatewise: ClassVar[bool] = True


class PulledAloneInRows(PulledAlone):
    """The same, with a state that is laid out as the iterate."""

    def init(self, spec: ParamSpec, n: int) -> Any:
        return self.phi.new_zeros(n, spec.size)

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        update, state = super().update(grads, state.flatten(), params)
        return update, state.view_as(grads)


def pulled(kind: type[Pulled] = Pulled) -> Pulled:
    return kind(weights=torch.tensor([0.1, 0.2], dtype=torch.float64))


def by_autograd(objective: Objective, optimizer: Learned, second_order: bool) -> Tensor:
    """dL/dφ through one graph, ∇ and the θ that the optimizer sees constant if first order."""
    phi = optimizer.phi.clone().requires_grad_()
    moving = optimizer.with_weights(phi)
    theta = objective.start()
    state = moving.init(objective.spec, objective.rows)
    total = torch.zeros((), dtype=torch.float64)
    for step in range(STEPS):
        seen = theta if second_order and step else theta.detach()
        _, grads = objective.value_and_grad(seen, step)
        update, state = moving.update(grads, state, Params(seen, objective.spec))
        theta = theta + update
        total = total + objective.value(theta, step + 1).mean()
    (gradient,) = torch.autograd.grad(total, phi)
    return gradient


@pytest.mark.parametrize("kind", [Pulled, PulledAlone, PulledAloneInRows])
@pytest.mark.parametrize("second_order", [False, True])
def test_meta_gradient_of_an_optimizer_that_reads_the_iterate(
    kind: type[Pulled], second_order: bool
) -> None:
    objective = Objective(InDouble(SMALL), INSTANCES, "train", 1)
    optimizer = pulled(kind)
    with torch.no_grad():
        points = walk(objective, optimizer, start(objective, optimizer), STEPS, second_order)
    weights = loss_weights(points, "loss")
    if second_order:
        gradient = second_order_gradient(optimizer, objective, points, weights)
    else:
        gradient = window_gradient(optimizer, points, weights, Rng(0, "unused"))
    expected = by_autograd(objective, optimizer, second_order)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=0)
    blind = by_autograd(objective, optimizer, not second_order)
    assert not torch.allclose(expected, blind, rtol=1e-3), "the two differ here"


def test_a_sample_of_coordinates_has_its_own_part_of_the_iterate() -> None:
    """Its mean over draws is the meta-gradient; with a wrong θ it would be another number."""
    objective = Objective(InDouble(Quadratic()), INSTANCES, "train", 1)
    optimizer = pulled(PulledAlone)
    with torch.no_grad():
        points = walk(objective, optimizer, start(objective, optimizer), STEPS)
        weights = loss_weights(points, "loss")
        whole = window_gradient(optimizer, points, weights, Rng(0, "unused"))
        drawn = [
            window_gradient(optimizer, points, weights, Rng(k, "draw"), sample=6)
            for k in range(400)
        ]
    error = (torch.stack(drawn).mean(0) - whole).abs()
    assert (error < 5 * torch.stack(drawn).std(0) / 20).all()


def test_a_run_that_diverged_adds_nothing_whatever_its_iterate_is() -> None:
    objective = Objective(InDouble(Quadratic()), INSTANCES, "train", 1)
    alone = Objective(InDouble(Quadratic()), INSTANCES[:1], "train", 1)
    optimizer = pulled()
    for second_order in (False, True):
        made = []
        for each in (objective, alone):
            with torch.no_grad():
                begin = start(each, optimizer)
                if each is objective:
                    begin.theta[1] = torch.inf
                    begin.alive[1] = False
                    begin.grads[1] = 0
                points = walk(each, optimizer, begin, STEPS, whole=True)
            weights = loss_weights(points, "loss")
            assert weights.isfinite().all()
            if second_order:
                made.append(second_order_gradient(optimizer, each, points, weights))
            else:
                made.append(window_gradient(optimizer, points, weights, Rng(0, "unused")))
        torch.testing.assert_close(2 * made[0], made[1])


@dataclass(frozen=True)
class Watcher(NAG):
    """NAG that notes what it is given."""

    def update(self, grads: Tensor, state: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        SEEN.append((params.theta.clone(), params.named()))
        return super().update(grads, state, params)


SEEN: list[tuple[Tensor, dict[str, Tensor]]] = []


def test_params_are_the_iterate_also_of_an_optimizer_that_looks_ahead() -> None:
    SEEN.clear()
    objective = Objective(SMALL, INSTANCES, "test", 0)
    with torch.no_grad():
        thetas = [p.theta.clone() for p in descend(objective, Watcher(lr=0.1), 4)]
    assert all(torch.equal(seen, theta) for (seen, _), theta in zip(SEEN, thetas, strict=False))
    shapes = {name: value.shape for name, value in SEEN[0][1].items()}
    assert shapes == {name: (2, *shape) for name, shape in objective.spec.shapes.items()}


@dataclass(frozen=True)
class Decay(Optimizer):
    """θ ← θ − η∇ − θ/10."""

    lr: float = 0.01

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        return -self.lr * grads - 0.1 * params.theta, state


def test_a_trace_gives_every_optimizer_the_iterates_of_the_trajectory() -> None:
    settings = Trace(along="Decay", coordinates=3, probed=2, points=21, lags=2, response_steps=3)
    found = trace(Quadratic(), {"Decay": Decay()}, settings, 8, 1, seed=2)
    objective = Objective(Quadratic(), [0], "test", 2)
    with torch.no_grad():
        points = walk(objective, Decay(), start(objective, Decay()), 8, whole=True)
    moves = torch.cat([b.theta - a.theta for a, b in pairwise(points)])
    for coordinate, rows in found.traces.groupby("coordinate"):
        own = torch.tensor(rows["update"].to_numpy())
        torch.testing.assert_close(own, moves[:, int(str(coordinate))], rtol=1e-3, atol=1e-6)
    theta, spec = torch.cat([p.theta for p in points[:8]]), objective.spec
    made = replay(Decay(), Params(theta, spec), torch.zeros(8, spec.size))
    torch.testing.assert_close(made, -0.1 * theta)
