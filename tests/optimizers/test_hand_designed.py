"""The baselines by the formulas of Torch7's `optim`, which the paper used, and by `torch.optim`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from moved import moved
from torch import Tensor

from l2l.optimizers.hand_designed.adam import Adam
from l2l.optimizers.hand_designed.nag import NAG
from l2l.optimizers.hand_designed.rmsprop import RMSprop
from l2l.optimizers.hand_designed.sgd import SGD
from l2l.suite.core.types import Optimizer, ParamSpec

STEPS = 30
SPEC = ParamSpec({"theta": torch.Size([5])})
pytestmark = pytest.mark.usefixtures("doubles")


def slope(theta: Tensor, step: int) -> Tensor:
    """A gradient that depends on where it is taken and on the step, with sizes 10⁻⁶ to 10."""
    sizes = torch.logspace(-6, 1, theta.shape[-1])
    wave = torch.sin(torch.arange(theta.shape[-1]) + 1.7 * step)
    return sizes * (theta - 1 + wave)


def trajectory(optimizer: Optimizer, rows: int = 1, steps: int = STEPS) -> Tensor:
    """Iterates θ_0 … θ_steps [steps + 1, rows, P], from 0."""
    theta = torch.zeros(rows, SPEC.size)
    state = optimizer.init(SPEC, rows)
    path = [theta]
    for step in range(steps):
        ahead = optimizer.lookahead(state)
        updates, state = moved(
            optimizer, slope(theta if ahead is None else theta + ahead, step), state
        )
        theta = theta + updates
        path.append(theta)
    return torch.stack(path)


def sgd_formula(lr: float) -> Iterator[Tensor]:
    theta = torch.zeros(SPEC.size)
    for step in range(STEPS):
        theta = theta - lr * slope(theta, step)
        yield theta


def rmsprop_formula(lr: float) -> Iterator[Tensor]:
    theta, v = torch.zeros(SPEC.size), torch.zeros(SPEC.size)
    for step in range(STEPS):
        g = slope(theta, step)
        v = 0.99 * v + (1 - 0.99) * g**2
        theta = theta - lr * g / (v**0.5 + 1e-8)
        yield theta


def adam_formula(lr: float) -> Iterator[Tensor]:
    theta, m, v = (torch.zeros(SPEC.size) for _ in range(3))
    for step in range(STEPS):
        g, t = slope(theta, step), step + 1
        m = 0.9 * m + (1 - 0.9) * g
        v = 0.999 * v + (1 - 0.999) * g**2
        corrected = lr * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t)
        theta = theta - corrected * m / (v**0.5 + 1e-8)
        yield theta


def nag_formula(lr: float) -> Iterator[Tensor]:
    theta, u = torch.zeros(SPEC.size), torch.zeros(SPEC.size)
    for step in range(STEPS):
        g = slope(theta + 0.9 * u, step)
        u = 0.9 * u - lr * g
        theta = theta + u
        yield theta


@pytest.mark.parametrize(
    ("optimizer", "formula"),
    [
        (SGD(0.03), sgd_formula),
        (RMSprop(0.03), rmsprop_formula),
        (Adam(0.03), adam_formula),
        (NAG(0.03), nag_formula),
    ],
    ids=["sgd", "rmsprop", "adam", "nag"],
)
def test_baseline_follows_torch7s_formula(
    optimizer: Any, formula: Callable[[float], Iterator[Tensor]]
) -> None:
    expected = torch.stack(list(formula(0.03)))
    path = trajectory(optimizer)[1:, 0]
    assert path[-1].abs().max() > 0.1
    assert torch.allclose(path, expected, rtol=1e-12, atol=1e-15)


def torch_path(make: Callable[[list[Tensor]], torch.optim.Optimizer]) -> Tensor:
    """What a `torch.optim` optimizer's own parameter is after each step."""
    theta = torch.zeros(SPEC.size, requires_grad=True)
    optimizer = make([theta])
    path = []
    for step in range(STEPS):
        theta.grad = slope(theta.detach(), step)
        optimizer.step()
        path.append(theta.detach().clone())
    return torch.stack(path)


def test_sgd_is_torchs() -> None:
    expected = torch_path(lambda params: torch.optim.SGD(params, lr=0.03))
    assert torch.allclose(trajectory(SGD(0.03))[1:, 0], expected, rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop_is_torchs(momentum: float) -> None:
    expected = torch_path(
        lambda params: torch.optim.RMSprop(params, lr=0.03, alpha=0.99, momentum=momentum)
    )
    assert torch.allclose(
        trajectory(RMSprop(0.03, momentum=momentum))[1:, 0], expected, rtol=1e-12, atol=1e-15
    )


def test_adam_without_epsilon_is_torchs() -> None:
    expected = torch_path(lambda params: torch.optim.Adam(params, lr=0.03, eps=0.0))
    assert torch.allclose(trajectory(Adam(0.03, epsilon=0.0))[1:, 0], expected, rtol=1e-12)


def test_adams_epsilon_is_outside_of_the_correction() -> None:
    """PyTorch adds ε to the corrected √v: with an ε that matters the two differ."""
    theirs = torch_path(lambda params: torch.optim.Adam(params, lr=0.03, eps=0.1))
    ours = trajectory(Adam(0.03, epsilon=0.1))[1:, 0]
    assert (ours - theirs).abs().max() > 0.1


def test_torchs_nesterov_parameter_is_nags_lookahead_point() -> None:
    theirs = torch_path(
        lambda params: torch.optim.SGD(params, lr=0.03, momentum=0.9, nesterov=True)
    )
    # The velocity is the last difference of iterates: θ_t + 0.9 (θ_t − θ_{t−1}). Torch's first
    # step begins with the velocity at −η∇, as u ← 0.9·0 − η∇ does.
    path = trajectory(NAG(0.03))[:, 0]
    ahead = path[1:] + 0.9 * (path[1:] - path[:-1])
    assert torch.allclose(theirs, ahead, rtol=1e-10, atol=1e-14)
    assert not torch.allclose(theirs, path[1:], rtol=1e-3)


@pytest.mark.parametrize("make", [SGD, RMSprop, Adam, NAG])
def test_column_of_rates_is_as_many_separate_runs(make: Any) -> None:
    rates = [1e-4, 0.03, 0.5]
    together = trajectory(make(torch.tensor(rates).unsqueeze(1)), rows=3)
    for row, rate in enumerate(rates):
        alone = trajectory(make(rate))[:, 0]
        assert torch.allclose(together[:, row], alone, rtol=1e-12, atol=1e-15)
    assert not torch.allclose(together[:, 0], together[:, 1])


@pytest.mark.parametrize("make", [SGD, RMSprop, Adam, NAG])
def test_update_leaves_gradients_and_the_given_state_as_they_were(make: Any) -> None:
    """Points of a run are kept, so what they hold must not change later."""
    optimizer = make(0.1)
    grads = slope(torch.zeros(2, SPEC.size), 0)
    _, state = moved(optimizer, grads, optimizer.init(SPEC, 2))
    parts = [state] if isinstance(state, Tensor) else list(state or [])
    before = [x.clone() for x in (grads, *parts)]
    moved(optimizer, grads, state)
    assert all(torch.equal(a, b) for a, b in zip((grads, *parts), before, strict=True))
