"""The meta-gradient of a window against its definition, by autograd through the whole unroll."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from example_problems import Cliff, InDouble
from hypothesis import given, settings
from hypothesis import strategies as st
from moved import moved
from torch import Tensor

from l2l.optimizers.learned import base
from l2l.optimizers.learned.lstm import LSTM
from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import ParamSpec, Problem
from l2l.suite.inner import loop
from l2l.suite.inner.objective import Objective, param_spec
from l2l.suite.inner.step import Point, advance, start
from l2l.suite.meta.estimators.truncated import window_gradient
from l2l.suite.meta.meta_loss import loss_weights

SEED = 5
QUADRATIC = Quadratic(dim=4)
SMALL_MLP = MLP(units=3, batch_size=16)


def lstm(problem: Problem) -> LSTM:
    # A small network on small gradients, so that no window is in the tails of its nonlinearities.
    kind = "log" if isinstance(problem, MLP) else "none"
    optimizer = LSTM(hidden=4, preprocessing=kind)
    return optimizer.with_weights(optimizer.initial_weights(Rng(SEED, "phi")))


def in_double(optimizer: LSTM) -> LSTM:
    assert optimizer.weights is not None
    return optimizer.with_weights(optimizer.weights.double())


def walk(
    problem: Problem,
    optimizer: Any,
    instances: Sequence[int],
    first: int,
    window: int,
    whole: bool = True,
) -> Any:
    """The points of a window that begins after `first` updates."""
    objective = Objective(problem, instances, "train", SEED)
    with torch.no_grad():
        point = start(objective, optimizer)
        for _ in range(first):
            point = advance(objective, optimizer, point)
        return loop.walk(objective, optimizer, point, window, whole)


def gradient_by_definition(
    problem: Problem,
    optimizer: LSTM,
    instances: Sequence[int],
    first: int,
    window: int,
    log: bool,
    discount: float,
) -> Tensor:
    """d/dφ of the mean over instances of Σ f(θ_t) or Σ log f(θ_t), t = first + 1 … first + window.

    θ and the state at the window's start are constants, and so is every ∇f that goes into the
    network; but nothing else is: all of it is in one graph.
    """
    assert optimizer.weights is not None
    spec = param_spec(problem)
    constant = optimizer.weights
    phi = constant.clone().requires_grad_()
    total = torch.zeros((), dtype=phi.dtype)
    for instance in instances:
        fixed = problem.instance(Rng(SEED, "train/instance", instance))

        def f(theta: Tensor, step: int, fixed: Any = fixed, instance: int = instance) -> Tensor:
            batch = problem.batch(Rng(SEED, "train/batch", instance, step))
            return problem.loss(spec.unflatten(theta), fixed, batch)

        theta = spec.flatten(problem.init(Rng(SEED, "train/init", instance)))
        state = optimizer.init(spec, 1)
        for step in range(first + window):
            inside = step >= first
            leaf = theta.detach().requires_grad_()
            (grad,) = torch.autograd.grad(f(leaf, step), leaf)
            made_by = optimizer.with_weights(phi if inside else constant)
            update, state = moved(made_by, grad.unsqueeze(0), state)
            # By γ a step, what an earlier update did to the iterate is taken to fade.
            theta = discount * theta + (1 - discount) * theta.detach() + update[0]
            if inside:
                loss = f(theta, step + 1)
                total = total + (loss.log() if log else loss) / len(instances)
    (grad,) = torch.autograd.grad(total, phi)
    return grad


def gradient_of(
    optimizer: LSTM,
    points: Sequence[Point],
    meta_loss: Any = "loss",
    rng: Rng | None = None,
    **options: Any,
) -> Tensor:
    weights = loss_weights(points, meta_loss)
    return window_gradient(optimizer, points, weights, rng or Rng(0, "unused"), **options)


def relative_error(value: Tensor, expected: Tensor) -> float:
    return ((value.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("discount", [1.0, 0.8])
@pytest.mark.parametrize("objective", ["loss", "log_loss"])
@pytest.mark.parametrize(("first", "window"), [(0, 6), (0, 1), (4, 5)])
@pytest.mark.parametrize("problem", [QUADRATIC, SMALL_MLP], ids=["quadratic", "mlp"])
def test_meta_gradient_matches_autograd_in_float64(
    problem: Problem, first: int, window: int, objective: str, discount: float
) -> None:
    instances = [2, 0, 5]
    optimizer = in_double(lstm(problem))
    points = walk(InDouble(problem), optimizer, instances, first, window)
    expected = gradient_by_definition(
        InDouble(problem), optimizer, instances, first, window, objective == "log_loss", discount
    )
    gradient = gradient_of(optimizer, points, objective, discount=discount)
    assert expected.norm() > 0
    assert relative_error(gradient, expected) <= 1e-10


@pytest.mark.parametrize("objective", ["loss", "log_loss"])
@pytest.mark.parametrize("problem", [QUADRATIC, SMALL_MLP], ids=["quadratic", "mlp"])
def test_meta_gradient_in_float32_is_that_of_float64_to_rounding(
    problem: Problem, objective: str
) -> None:
    points = walk(problem, lstm(problem), [0, 1, 2, 3], 3, 10)
    gradient = gradient_of(lstm(problem), points, objective)
    in_64 = [
        replace(p, grads=p.grads.double(), loss=p.loss.double(), state=p.state.double())
        for p in points
    ]
    expected = gradient_of(in_double(lstm(problem)), in_64, objective)
    assert relative_error(gradient, expected) <= 1e-5


@pytest.mark.parametrize("problem", [QUADRATIC, SMALL_MLP], ids=["quadratic", "mlp"])
def test_window_that_reuses_the_memory_of_its_states_has_the_same_gradient(
    problem: Problem,
) -> None:
    whole, lean = (walk(problem, lstm(problem), [0, 1], 2, 4, kept) for kept in (True, False))
    gradients = [gradient_of(lstm(problem), each) for each in (whole, lean)]
    assert torch.equal(*gradients)
    for end in (0, -1):
        assert torch.equal(lean[end].state, whole[end].state)
        assert torch.equal(lean[end].theta, whole[end].theta)
    assert all(point.state is None for point in lean[1:-1])


@pytest.mark.parametrize("objective", ["loss", "log_loss"])
def test_pieces_of_the_coordinates_sum_to_the_whole(
    monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    """In plain PyTorch, which the fused kernel leaves float64 to."""
    optimizer = in_double(lstm(SMALL_MLP))
    points = walk(InDouble(SMALL_MLP), optimizer, [0, 1, 2], 1, 4)
    whole = gradient_of(optimizer, points, objective, discount=0.9)
    # Neither as many as an instance has, nor in equal parts.
    monkeypatch.setattr(base, "PIECE", 1000)
    seen = []
    original = LSTM.window_gradient

    def counted(self: LSTM, grads: Tensor, *rest: Any) -> Tensor:
        seen.append(grads.shape[-1])
        return original(self, grads, *rest)

    monkeypatch.setattr(LSTM, "window_gradient", counted)
    pieces = gradient_of(optimizer, points, objective, discount=0.9)
    assert sum(seen) == points[0].theta.numel() and max(seen) <= 1000
    assert relative_error(pieces, whole) < 1e-12


def sampled(points: Sequence[Point], sample: int | None, draw: int) -> Tensor:
    return gradient_of(lstm(SMALL_MLP), points, rng=Rng(SEED, "draws", draw), sample=sample)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 8),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 30)),
    network=st.tuples(st.integers(1, 2), st.sampled_from([4, 20])),
    sizes=st.lists(st.sampled_from([0.0, 1e-30, 1e-5, 1.0, 1e8, 1e30]), min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
)
def test_any_weights_and_gradients_give_the_gradient_of_the_weighted_sum(
    steps: int, shape: tuple[int, int], network: tuple[int, int], sizes: list[float], seed: int
) -> None:
    """L = Σ_t w_t ⟨∇f(θ_t), θ_t⟩ has dL/dφ where ∂∇/∂φ is taken as 0."""
    rng = Rng(seed, "case")
    optimizer = LSTM(layers=network[0], hidden=network[1])
    optimizer = optimizer.with_weights(optimizer.initial_weights(rng))
    scale = torch.tensor(sizes)[rng.integers(len(sizes), shape[1])]
    grads = rng.normal(steps + 1, *shape) * scale
    # The objective log_loss weighs by 1/f, so that these losses make weights of any size.
    losses = 10 ** (4 * rng.uniform(steps + 1, shape[0]) - 2)
    spec = ParamSpec({"x": torch.Size([shape[1]])})
    empty, alive = torch.empty(0), torch.ones(shape[0], dtype=torch.bool)

    def gradient(kind: torch.dtype) -> Tensor:
        own = optimizer.with_weights(optimizer.phi.to(kind))
        points = [
            Point(t, empty, None, losses[t].to(kind), grads[t].to(kind), alive, ParamSpec({}))
            for t in range(steps + 1)
        ]
        points[0] = replace(points[0], state=own.init(spec, shape[0]))
        return gradient_of(own, points, "log_loss")

    phi = optimizer.phi.double().requires_grad_()
    state: Any = optimizer.with_weights(phi).init(spec, shape[0])
    theta, total = torch.zeros(shape, dtype=torch.double), torch.zeros((), dtype=torch.double)
    for t in range(steps):
        update, state = moved(optimizer.with_weights(phi), grads[t].double(), state)
        theta = theta + update
        of_runs = (grads[t + 1].double() * theta).sum(1)
        total = total + (of_runs / losses[t + 1].double()).sum() / shape[0]
    (expected,) = torch.autograd.grad(total, phi)
    assert (gradient(torch.double) - expected).norm() <= 1e-10 * expected.norm()
    assert (gradient(torch.float).double() - expected).norm() <= 1e-5 * expected.norm()


def test_sampling_coordinates_is_unbiased_and_takes_no_more_than_asked() -> None:
    points = walk(SMALL_MLP, lstm(SMALL_MLP), [0, 1], 0, 4)
    exact = sampled(points, None, 0)
    draws = torch.stack([sampled(points, 200, draw) for draw in range(120)])
    one = (draws - exact).norm(dim=1).square().mean().sqrt()
    mean_off = (draws.mean(0) - exact).norm()
    assert one > 0.001 * exact.norm(), "200 of 2,395 coordinates cannot be exact"
    # The mean of 120 draws is off by 1/√120 of what one is; twice that is far in the tail.
    assert mean_off < 2 * one / math.sqrt(len(draws))
    assert one < exact.norm()


def test_sampling_keeps_about_as_many_coordinates_as_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = walk(SMALL_MLP, lstm(SMALL_MLP), [0, 1], 0, 4)
    kept = []

    def count(_: LSTM, grads: Tensor, *__: Tensor) -> Tensor:
        kept.append(grads.shape[-1])
        return torch.zeros(1)

    monkeypatch.setattr(LSTM, "window_gradient", count)
    for draw in range(20):
        sampled(points, 100, draw)
    assert sum(kept) / len(kept) == pytest.approx(200, rel=0.1)


@pytest.mark.parametrize("sample", [2395, 5000])
def test_sample_as_large_as_the_run_is_exact(sample: int) -> None:
    points = walk(SMALL_MLP, lstm(SMALL_MLP), [0, 1], 0, 4)
    assert points[0].theta.shape[1] == 2395
    # Sizes over many orders of magnitude, as in real networks.
    for point in points:
        point.grads.mul_(torch.logspace(0, -8, 2395))
    assert torch.equal(sampled(points, sample, 0), sampled(points, None, 0))


@pytest.mark.parametrize("objective", ["loss", "log_loss"])
@pytest.mark.parametrize("sample", [None, 2])
def test_diverged_run_contributes_nothing(objective: str, sample: int | None) -> None:
    """One whose loss stops being finite within the window, or did so before it."""
    problem = Cliff()
    fast = replace(lstm(QUADRATIC), output_scale=1.0)
    points = walk(problem, fast, range(8), 5, 4)
    before, after = points[0].alive, points[-1].alive
    assert 0 < after.sum() < before.sum() < len(before), "some diverge before, some within"
    gradient = gradient_of(fast, points, objective, Rng(0, "sample"), sample=sample)
    assert gradient.isfinite().all()

    if sample is None:
        survivors = after.nonzero().flatten().tolist()
        alone = gradient_of(fast, walk(problem, fast, survivors, 5, 4), objective)
        expected = alone * len(survivors) / len(before)
        assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_run_with_an_infinite_gradient_before_it_diverges_contributes_nothing() -> None:
    """A loss can be finite where its gradient has overflowed."""
    points = walk(QUADRATIC, lstm(QUADRATIC), [0, 1], 0, 3)
    dead = torch.tensor([True, False])
    points[2].grads[1] = torch.inf
    points[3] = replace(
        points[3],
        alive=dead,
        loss=points[3].loss.where(dead, torch.inf),
        grads=points[3].grads.where(dead[:, None], 0.0),
    )
    gradient = gradient_of(lstm(QUADRATIC), points)
    assert gradient.isfinite().all()
    alone = walk(QUADRATIC, lstm(QUADRATIC), [0], 0, 3)
    expected = gradient_of(lstm(QUADRATIC), alone) / 2
    assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("step", [1, 3])
def test_run_with_an_infinite_gradient_contributes_nothing_though_its_loss_is_finite(
    step: int,
) -> None:
    points = walk(QUADRATIC, lstm(QUADRATIC), [0, 1], 0, 3)
    points[step].grads[1, 0] = torch.inf
    gradient = gradient_of(lstm(QUADRATIC), points)
    expected = gradient_of(lstm(QUADRATIC), walk(QUADRATIC, lstm(QUADRATIC), [0], 0, 3)) / 2
    assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_window_without_any_slope_has_a_zero_gradient() -> None:
    points = walk(QUADRATIC, lstm(QUADRATIC), [0], 0, 3)
    flat = [replace(point, grads=torch.zeros_like(point.grads)) for point in points]
    for sample in (None, 2):
        gradient = gradient_of(lstm(QUADRATIC), flat, rng=Rng(0, "sample"), sample=sample)
        assert torch.equal(gradient, torch.zeros(lstm(QUADRATIC).layout.size))
