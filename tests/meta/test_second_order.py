"""The meta-gradient with ∂∇/∂φ, against finite differences through the whole window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from example_problems import Cliff, InDouble, Kink
from torch import Tensor
from torch.utils._pytree import tree_leaves

from l2l import Tensors
from l2l.optimizers.learned.adjoints import adjoints_by_autograd
from l2l.optimizers.learned.lstm import LSTM
from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.estimator import CappedLoss
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Problem
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point, advance, start
from l2l.suite.meta.estimators.second_order import second_order_gradient
from l2l.suite.meta.estimators.truncated import window_gradient
from l2l.suite.meta.meta_loss import loss_weights

SEED = 7
INSTANCES = (3, 1)


@dataclass(frozen=True)
class ByHand(InDouble):
    """With the inner problem's own `losses`."""

    def losses(self, params: Tensors, instance: Tensors, batch: Any) -> Tensor:
        return self.inner.losses(params, instance, batch)


@dataclass(frozen=True)
class OneByOne(InDouble):
    """Not vectorised."""

    one_by_one: ClassVar[bool] = True


def gradient_of(
    on: Objective, optimizer: Any, points: Sequence[Point], meta_loss: Any = "loss"
) -> Tensor:
    return second_order_gradient(optimizer, on, points, loss_weights(points, meta_loss))


def lstm(preprocessing: str, dtype: torch.dtype) -> LSTM:
    # An output scale at which gradients change much within a window, and ∂∇/∂φ with them.
    optimizer = LSTM(hidden=4, preprocessing=preprocessing, output_scale=0.5)
    return optimizer.with_weights(optimizer.initial_weights(Rng(SEED, "phi")).to(dtype))


@torch.no_grad()
def walk(objective: Objective, optimizer: LSTM, point: Point, steps: int) -> list[Point]:
    points = [point]
    for _ in range(steps):
        points.append(point := advance(objective, optimizer, point))
    return points


@torch.no_grad()
def test_capped_loss_is_that_of_finite_differences() -> None:
    on = Objective(InDouble(Quadratic(dim=4)), INSTANCES, "train", SEED)
    optimizer = lstm("none", torch.float64)
    points = window(on, optimizer, 3, 5)
    losses = torch.stack([point.loss for point in points[1:]])
    # Between two losses, so that some are capped and none is at its cap.
    middle = losses.flatten().sort().values[losses.numel() // 2 - 1 :][:2].mean().item()
    capped = CappedLoss(middle)
    gradient = gradient_of(on, optimizer, points, capped)
    for draw in range(3):
        direction = Rng(SEED, "direction", draw).normal(optimizer.layout.size).double()
        slope = slope_along(direction, on, optimizer, points, capped)
        assert (gradient @ direction).item() == pytest.approx(slope, rel=1e-5)
    assert not torch.allclose(gradient, gradient_of(on, optimizer, points))


@torch.no_grad()
def window(objective: Objective, optimizer: LSTM, first: int, steps: int) -> list[Point]:
    begin = walk(objective, optimizer, start(objective, optimizer), first)[-1]
    return walk(objective, optimizer, begin, steps)


def meta_loss(points: Sequence[Point], objective: Any) -> float:
    losses = torch.stack([point.loss for point in points[1:]])
    if isinstance(objective, CappedLoss):
        losses = losses.clamp_max(objective.cap)
    return float((losses.log() if objective == "log_loss" else losses).sum(0).mean())


def slope_along(
    direction: Tensor, on: Objective, optimizer: Any, points: Sequence[Point], objective: Any
) -> float:
    """The change of the window's meta-loss with φ in one direction, by finite differences."""
    h = 1e-5 / float(direction.norm())
    ends = [
        meta_loss(
            walk(
                on,
                optimizer.with_weights(optimizer.phi + side * h * direction),
                points[0],
                len(points) - 1,
            ),
            objective,
        )
        for side in (1, -1)
    ]
    return (ends[0] - ends[1]) / (2 * h)


@pytest.mark.parametrize("objective", ["loss", "log_loss"])
@pytest.mark.parametrize("form", [InDouble, ByHand, OneByOne])
@pytest.mark.parametrize(
    ("problem", "preprocessing"),
    [(Quadratic(dim=4), "none"), (MLP(units=3, batch_size=16), "log")],
    ids=["quadratic", "mlp"],
)
def test_gradient_is_that_of_finite_differences(
    problem: Problem, preprocessing: str, form: type[InDouble], objective: Any
) -> None:
    on = Objective(form(problem), INSTANCES, "train", SEED)
    optimizer = lstm(preprocessing, torch.float64)
    points = window(on, optimizer, 3, 5)
    gradient = gradient_of(on, optimizer, points, objective)

    for draw in range(3):
        direction = Rng(SEED, "direction", draw).normal(optimizer.layout.size).double()
        slope = slope_along(direction, on, optimizer, points, objective)
        assert (gradient @ direction).item() == pytest.approx(slope, rel=1e-5)

    first_order = window_gradient(
        optimizer, points, loss_weights(points, objective), Rng(0, "unused")
    )
    assert (gradient - first_order).norm() > 1e-3 * gradient.norm(), "∂∇/∂φ is of no matter here"


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "lstm-gac", "hidden": 4},
        {"name": "ntm-bfgs", "hidden": 4},
        {"name": "ntm-l-bfgs", "hidden": 4},
        {"name": "routed", "groups": {"all": {"name": "lstm", "hidden": 4}}},
    ],
    ids=lambda spec: spec["name"],
)
def test_any_learned_optimizer_has_it(spec: dict[str, Any]) -> None:
    on = Objective(InDouble(Quadratic(dim=4)), INSTANCES, "train", SEED)
    made = optimizers.make(spec)
    optimizer = made.with_weights(made.initial_weights(Rng(SEED, "phi")).double())
    points = window(on, optimizer, 3, 4)
    gradient = gradient_of(on, optimizer, points)
    direction = Rng(SEED, "direction").normal(optimizer.layout.size).double()
    slope = slope_along(direction, on, optimizer, points, "loss")
    assert (gradient @ direction).item() == pytest.approx(slope, rel=1e-4)


def test_float32_agrees_with_float64() -> None:
    """Where the fused kernel, which leaves no graph, serves the loop."""
    gradients = []
    for problem, dtype in (
        (Quadratic(dim=4), torch.float32),
        (ByHand(Quadratic(dim=4)), torch.float64),
    ):
        on = Objective(problem, INSTANCES, "train", SEED)
        optimizer = lstm("none", dtype)
        points = window(on, optimizer, 2, 5)
        gradients.append(gradient_of(on, optimizer, points).double())
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-4 * float(gradients[1].norm()))


@pytest.mark.parametrize("preprocessing", ["log", "none"])
@pytest.mark.parametrize("last", [True, False])
def test_fused_adjoints_are_those_of_autograd(preprocessing: str, last: bool) -> None:
    rng = Rng(SEED, "adjoints")
    grads, of_update = rng.normal(2, 11), rng.normal(2, 11)
    grads[0, :3] = torch.tensor([0.0, 1e-9, 4.5e-5])
    state = rng.normal(2, 2, 4, 22)
    of_state = [rng.normal(2, 2, 4, 22)] if last else []
    optimizer, double = (lstm(preprocessing, dtype) for dtype in (torch.float32, torch.float64))
    made = optimizer.adjoints(grads, state, of_update, of_state)
    expected = adjoints_by_autograd(
        double, grads.double(), state.double(), of_update.double(), [x.double() for x in of_state]
    )
    for value, true in zip(tree_leaves(made), tree_leaves(expected), strict=True):
        assert value.isfinite().all()
        assert (value - true).norm() <= 1e-5 * true.norm()


def test_window_of_one_step_is_first_order() -> None:
    """Its only gradient is from before the window."""
    on = Objective(InDouble(Quadratic(dim=4)), INSTANCES, "train", SEED)
    optimizer = lstm("none", torch.float64)
    points = window(on, optimizer, 3, 1)
    gradients = [
        gradient_of(on, optimizer, points),
        window_gradient(optimizer, points, loss_weights(points, "loss"), Rng(0, "unused")),
    ]
    assert torch.allclose(*gradients, rtol=1e-10)


def test_diverged_run_contributes_nothing() -> None:
    optimizer = replace(lstm("none", torch.float64), output_scale=4.0)
    instances = list(range(8))
    on = Objective(InDouble(Cliff()), instances, "train", 3)
    points = window(on, optimizer, 5, 4)
    before, after = points[0].alive, points[-1].alive
    assert 0 < after.sum() < before.sum() < len(before), "some diverge before, some within"
    gradient = gradient_of(on, optimizer, points)
    survivors = after.nonzero().flatten().tolist()
    alone = Objective(InDouble(Cliff()), survivors, "train", 3)
    expected = gradient_of(alone, optimizer, window(alone, optimizer, 5, 4))
    assert torch.allclose(gradient, expected * len(survivors) / len(instances), rtol=1e-8)


def test_run_with_an_infinite_gradient_contributes_nothing_though_its_loss_is_finite() -> None:
    optimizer = lstm("none", torch.float64)
    on = Objective(InDouble(Cliff()), [0, 1], "train", 3)
    points = window(on, optimizer, 0, 3)
    points[2].grads[1, 0] = torch.inf
    gradient = gradient_of(on, optimizer, points)
    alone = Objective(InDouble(Cliff()), [0], "train", 3)
    expected = gradient_of(alone, optimizer, window(alone, optimizer, 0, 3))
    assert torch.allclose(gradient, expected / 2, rtol=1e-8)


def test_run_that_stopped_where_curvature_is_infinite_contributes_nothing() -> None:
    optimizer = lstm("none", torch.float64)
    on = Objective(InDouble(Kink()), [0, 1], "train", 3)
    points = window(on, optimizer, 0, 3)
    for point in points:
        # It diverged before this window, at a place whose second derivative is infinite.
        point.alive[1], point.grads[1], point.theta[1] = False, 0.0, 0.0
    gradient = gradient_of(on, optimizer, points)
    alone = Objective(InDouble(Kink()), [0], "train", 3)
    expected = gradient_of(alone, optimizer, window(alone, optimizer, 0, 3))
    assert expected.abs().max() > 1e-3
    assert torch.allclose(gradient, expected / 2, rtol=1e-8)
