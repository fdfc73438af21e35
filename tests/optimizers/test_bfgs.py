"""BFGS and L-BFGS: Nocedal and Wright's formulas, and what they are known to do on quadratics."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from moved import moved
from numpy.typing import NDArray
from torch import Tensor

from l2l.optimizers.hand_designed.bfgs import BFGS, bfgs_inverse
from l2l.optimizers.hand_designed.l_bfgs import LBFGS, two_loops
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import ParamSpec

N, P = 3, 6
SPEC = ParamSpec({"theta": torch.Size([P])})

pytestmark = pytest.mark.usefixtures("doubles")


def hessians() -> Tensor:
    """N positive definite matrices with eigenvalues from 1 to 30."""
    q, _ = torch.linalg.qr(Rng(0, "basis").normal(N, P, P).double())
    return (q * torch.logspace(0, 1.5, P)) @ q.mT


def start() -> Tensor:
    return Rng(0, "start").normal(N, P).double()


def gradient(theta: Tensor) -> Tensor:
    """Of f(θ) = θᵀAθ / 2."""
    return torch.einsum("npq,nq->np", hessians(), theta)


def descend(optimizer: Any, steps: int, exact: bool = False) -> tuple[list[Tensor], Any]:
    """θ_0 …, and the last state; with `exact`, rates are those of an exact line search."""
    theta = start()
    state, path = optimizer.init(SPEC, N), [theta]
    for _ in range(steps):
        grads = gradient(theta)
        if exact:
            direction, _ = moved(replace(optimizer, lr=1.0), grads, state)
            down = -(grads * direction).sum(1)
            rate = down / (direction * gradient(direction)).sum(1)
            optimizer = replace(optimizer, lr=rate.nan_to_num().unsqueeze(1))
        update, state = moved(optimizer, grads, state)
        theta = theta + update
        path.append(theta)
    return path, state


def numpy_bfgs(
    hessian: NDArray[Any], theta: NDArray[Any], lr: float, initial: float, scaled: bool, steps: int
) -> list[NDArray[Any]]:
    """Equation 6.17 as it stands."""
    identity = np.eye(P)
    inverse, grads, path = initial * identity, hessian @ theta, [theta]
    for step in range(steps):
        s = -lr * inverse @ grads
        theta = theta + s
        y = hessian @ theta - grads
        grads = grads + y
        if scaled and step == 0:
            inverse = (s @ y) / (y @ y) * identity
        rho = 1 / (y @ s)
        left = identity - rho * np.outer(s, y)
        inverse = left @ inverse @ left.T + rho * np.outer(s, s)
        path.append(theta)
    return path


@pytest.mark.parametrize("scaled", [False, True])
def test_bfgs_is_the_books(scaled: bool) -> None:
    path, _ = descend(BFGS(lr=0.7, initial=0.05, scaled=scaled), 12)
    for row, hessian in enumerate(hessians()):
        expected = numpy_bfgs(hessian.numpy(), start()[row].numpy(), 0.7, 0.05, scaled, 12)
        ours = torch.stack(path)[:, row].numpy()
        np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("make", [BFGS, LBFGS])
def test_with_exact_line_searches_it_ends_in_as_many_steps_as_dimensions(make: Any) -> None:
    path, state = descend(make(lr=1.0), P, exact=True)
    assert (path[-2].norm(dim=1) > 1e-6).all()
    assert (path[-1].norm(dim=1) < 1e-10).all()
    if make is BFGS:
        _, state = descend(make(lr=1.0), P + 1, exact=True)
        expected = torch.linalg.inv(hessians())
        torch.testing.assert_close(state.inverse, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("make", [BFGS, LBFGS])
def test_rate_1_converges_on_quadratics(make: Any) -> None:
    path, _ = descend(make(lr=1.0), 60)
    assert (path[60].norm(dim=1) < 1e-9 * path[0].norm(dim=1)).all()


def test_two_loops_are_the_matrix_of_the_same_pairs() -> None:
    moves, grads = Rng(1, "moves").normal(4, N, P).double(), Rng(1, "grads").normal(N, P).double()
    changes = torch.stack([gradient(move) for move in moves])
    scale = torch.tensor([0.1, 0.5, 2.0])
    inverse = scale[:, None, None] * torch.eye(P)
    for s, y in zip(moves, changes, strict=True):
        inverse = bfgs_inverse(inverse, s, y)
    expected = torch.einsum("npq,nq->np", inverse, grads)
    torch.testing.assert_close(two_loops(grads, moves, changes, scale), expected)
    empty = torch.zeros(2, N, P)
    more = two_loops(grads, torch.cat([empty, moves]), torch.cat([empty, changes]), scale)
    torch.testing.assert_close(more, expected)


def test_l_bfgs_forgets_all_but_its_history() -> None:
    path, state = descend(LBFGS(lr=0.5, history=3), 8)
    moves = torch.stack([b - a for a, b in itertools.pairwise(path[4:-1])])
    moves = moves / moves.norm(dim=2, keepdim=True)
    torch.testing.assert_close(state.moves, moves)
    torch.testing.assert_close(state.changes, torch.stack([gradient(move) for move in moves]))
    newest, change = state.moves[-1], state.changes[-1]
    torch.testing.assert_close(state.scale, (newest * change).sum(1) / change.square().sum(1))


@pytest.mark.parametrize("make", [BFGS, LBFGS])
def test_pairs_of_negative_curvature_change_nothing(make: Any) -> None:
    """And only in their own row."""
    optimizer = make(lr=1.0)
    _, state = descend(optimizer, 4)
    grads = state.grads + gradient(state.move)
    grads[1] = state.grads[1] - gradient(state.move)[1]
    _, following = moved(optimizer, grads, state)
    kept = {"inverse": 0, "pairs": 0} if make is BFGS else {"moves": 1, "changes": 1, "scale": 0}
    for name, rows in kept.items():
        different = (getattr(state, name) != getattr(following, name)).movedim(rows, 0)
        assert different.reshape(N, -1).any(1).tolist() == [True, False, True]
