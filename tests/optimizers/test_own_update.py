"""A subclass with an `update` of its own does not inherit its parent's gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from l2l.optimizers.learned.adjoints import adjoints_by_autograd
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.lstm import LSTM
from l2l.optimizers.learned.rnnprop import RNNProp
from l2l.optimizers.learned.routed import Routed
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Params, ParamSpec

SPEC = ParamSpec({"w": torch.Size([7])}, {"w": "all"})
N, STEPS = 2, 4


@dataclass(frozen=True)
class OwnLSTM(LSTM):
    def update(self, *given: Any) -> Any:
        return _five_times(super().update(*given))


@dataclass(frozen=True)
class OwnRNNProp(RNNProp):
    def update(self, *given: Any) -> Any:
        return _five_times(super().update(*given))


@dataclass(frozen=True)
class OwnRouted(Routed):
    def update(self, *given: Any) -> Any:
        return _five_times(super().update(*given))


def _five_times(given: tuple[Any, Any]) -> tuple[Any, Any]:
    update, state = given
    return 5 * update, state


def made(cls: type[Learned]) -> Learned:
    optimizer = cls()
    return optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))


@pytest.mark.parametrize("cls", [OwnLSTM, OwnRNNProp, OwnRouted])
def test_meta_gradient_is_that_of_its_own_updates(cls: type[Learned]) -> None:
    optimizer, rng = made(cls), Rng(1, "given")
    grads, weights = rng.normal(STEPS + 1, N, 7), rng.uniform(STEPS, N)
    params = Params(rng.normal(STEPS, N, 7), SPEC)
    state = optimizer.init(SPEC, N)
    found = optimizer.loss_gradient(list(grads), state, weights, 1.0, params)

    phi = optimizer.phi.clone().requires_grad_()
    moving, moved, total = optimizer.with_weights(phi), torch.zeros(N, 7), phi.new_zeros(())
    for step in range(STEPS):
        update, state = moving.update(grads[step], state, params.at(step))
        moved = moved + update
        total = total + (weights[step] * (grads[step + 1] * moved).sum(1)).sum()
    (expected,) = torch.autograd.grad(total, phi)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls", [OwnLSTM, OwnRNNProp, OwnRouted])
def test_adjoints_are_those_of_its_own_updates(cls: type[Learned]) -> None:
    optimizer, rng = made(cls), Rng(1, "given")
    params = Params(rng.normal(N, 7), SPEC)
    _, state = optimizer.update(rng.normal(N, 7), optimizer.init(SPEC, N), params)
    given = (rng.normal(N, 7), state, rng.normal(N, 7), [], params)
    found, expected = optimizer.adjoints(*given), adjoints_by_autograd(optimizer, *given)
    for one, other in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
