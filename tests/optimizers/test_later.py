"""RNNProp, small_fc_lopt and Celo2-base against their published formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import published
import pytest
import torch
from torch import Tensor

from l2l.optimizers.learned.adjoints import adjoints_by_autograd
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.celo2 import Celo2Base
from l2l.optimizers.learned.rnnprop import RNNProp
from l2l.optimizers.learned.small_fc_lopt import SmallFCLopt
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Params, ParamSpec

SPEC = ParamSpec(
    {
        "w": torch.Size([5, 3]),
        "b": torch.Size([3]),
        "filters": torch.Size([2, 3, 2, 2]),
        "square": torch.Size([2, 2]),
        "scalar": torch.Size([]),
    }
)
N, STEPS = 2, 6
LATER = [
    RNNProp(hidden=4),
    SmallFCLopt(),
    Celo2Base(lr=0.03, weight_decay=0.1),
    Celo2Base(as_published=True),
]


def with_weights(optimizer: Any, dtype: torch.dtype = torch.float64) -> Any:
    """Far from where training starts: decays, biases and the last layer have their say."""
    weights = optimizer.initial_weights(Rng(3, "phi"))
    weights = weights + 0.1 * Rng(4, "phi").normal(optimizer.layout.size)
    return optimizer.with_weights(weights.to(dtype))


def gradients() -> Tensor:
    """[T, n, P], of sizes from 10⁻⁴ to 1, and some of them 0."""
    grads = Rng(5, "gradients").normal(STEPS, N, SPEC.size).double()
    sizes = torch.logspace(-4, 0, SPEC.size, dtype=torch.float64)
    grads[..., 4] = 0
    return grads * sizes


def iterates() -> Tensor:
    """[T, n, P]."""
    return Rng(6, "iterates").normal(STEPS, N, SPEC.size).double()


def updates(optimizer: Any, grads: Tensor, theta: Tensor) -> Tensor:
    """[T, n, P]."""
    state, made = optimizer.init(SPEC, grads.shape[1]), []
    for gradient, iterate in zip(grads, theta, strict=True):
        update, state = optimizer.update(gradient, state, Params(iterate, SPEC))
        made.append(update)
    return torch.stack(made)


def named(flat: Tensor) -> dict[str, Any]:
    return {name: each.numpy() for name, each in SPEC.unflatten(flat).items()}


def as_published(optimizer: Any, grads: Tensor, theta: Tensor) -> Tensor:
    """Updates of one run [T, P] by formula, tensor by tensor."""
    parts = {name: each.numpy() for name, each in optimizer.layout.split(optimizer.phi).items()}
    made: list[Any] = []
    if isinstance(optimizer, RNNProp):
        sizes = optimizer.layers, optimizer.hidden
        run = [published.RNNPropCoordinate(parts, *sizes) for _ in range(SPEC.size)]
        rows = [[each.step(g) for each, g in zip(run, row.tolist(), strict=True)] for row in grads]
        return torch.tensor(rows, dtype=torch.float64)
    small = isinstance(optimizer, SmallFCLopt)
    begin = published.small_fc_lopt if small else published.celo2_base
    tensors = {name: begin(parts) for name in SPEC.shapes}
    for gradient, iterate in zip(grads, theta, strict=True):
        at, row = named(iterate), []
        for name, g in named(gradient).items():
            if small:
                update = published.small_fc_lopt_step(tensors[name], g, at[name], optimizer.step)
            else:
                given = (optimizer.lr, optimizer.weight_decay, optimizer.as_published)
                update = published.celo2_base_step(tensors[name], g, at[name], *given)
            row.append(np.ravel(update))
        made.append(np.concatenate(row))
    return torch.from_numpy(np.stack(made))


def name_of(optimizer: Any) -> str:
    as_published = getattr(optimizer, "as_published", False)
    return type(optimizer).__name__ + ("-as-published" if as_published else "")


@pytest.mark.parametrize("optimizer", LATER, ids=name_of)
def test_updates_are_those_of_the_published_formula(optimizer: Any) -> None:
    grads, theta = gradients(), iterates()
    made = updates(with_weights(optimizer), grads, theta)
    assert made.abs().max() > 1e-4
    for run in range(N):
        expected = as_published(with_weights(optimizer), grads[:, run], theta[:, run])
        torch.testing.assert_close(made[:, run], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", LATER, ids=name_of)
def test_numbers_of_weights_are_the_published_ones(optimizer: Any) -> None:
    published_sizes = {RNNProp: 6641, SmallFCLopt: 197, Celo2Base: 347}
    assert type(optimizer)().layout.size == published_sizes[type(optimizer)]


@pytest.mark.parametrize("optimizer", LATER, ids=name_of)
def test_float32_follows_float64(optimizer: Any) -> None:
    grads, theta = gradients(), iterates()
    exact = updates(with_weights(optimizer), grads, theta)
    single = updates(with_weights(optimizer, torch.float32), grads.float(), theta.float())
    torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("optimizer", LATER, ids=name_of)
def test_meta_gradient_is_autograds_through_the_window(optimizer: Any) -> None:
    """Gradients and iterates constant, accumulators not: their decays may be learned."""
    grads, theta = gradients(), iterates()
    lambdas = Rng(7, "lambdas").normal(*grads.shape).double()
    learned = with_weights(optimizer)
    state = learned.init(SPEC, N)
    # After a step, so that no state is 0.
    _, state = learned.update(grads[0], state, Params(theta[0], SPEC))
    made = learned.window_gradient(grads[1:], state, lambdas[1:], Params(theta[1:], SPEC))

    phi = learned.phi.clone().requires_grad_()
    moving, total = learned.with_weights(phi), torch.zeros((), dtype=torch.float64)
    for step in range(1, STEPS):
        update, state = moving.update(grads[step], state, Params(theta[step], SPEC))
        total = total + (update * lambdas[step]).sum()
    (expected,) = torch.autograd.grad(total, phi)
    torch.testing.assert_close(made, expected, rtol=1e-9, atol=1e-12)
    if isinstance(optimizer, SmallFCLopt):
        assert (made[-7:] != 0).all(), "decays are learned"


@pytest.mark.parametrize("optimizer", LATER, ids=name_of)
@pytest.mark.parametrize("last", [True, False])
def test_adjoints_are_autograds(optimizer: Any, last: bool) -> None:
    learned, grads = with_weights(optimizer), gradients()
    params = Params(iterates()[1], SPEC)
    _, state = learned.update(grads[0], learned.init(SPEC, N), params)
    tensors = [state] if isinstance(state, Tensor) else list(state)
    of_state = [] if last else [Rng(8, "adjoints").normal(*x.shape).double() for x in tensors]
    given = (grads[1], state, Rng(9, "adjoints").normal(N, SPEC.size).double(), of_state, params)
    made, expected = learned.adjoints(*given), adjoints_by_autograd(learned, *given)
    torch.testing.assert_close(made.phi, expected.phi)
    torch.testing.assert_close(made.grads, expected.grads)
    torch.testing.assert_close(made.state, expected.state)


def test_fused_rnnprop_is_the_plain_one() -> None:
    """Updates, in place too, and the meta-gradient, also where some λ are 0 throughout."""
    grads = Rng(1, "gradients").normal(8, 1, 200)
    lambdas = Rng(2, "lambdas").normal(8, 1, 200)
    lambdas[..., 40:90] = 0
    spec = ParamSpec({"w": torch.Size([200])})
    single, exact = (with_weights(RNNProp(), dtype) for dtype in (torch.float32, torch.float64))
    state, in_place, expected = (each.init(spec, 1) for each in (single, single, exact))
    for gradient in grads:
        update, state = single.update(gradient, state, Params.unread(gradient))
        same, in_place = single.update_in_place(gradient, in_place, Params.unread(gradient))
        double, expected = exact.update(gradient.double(), expected, Params.unread(gradient))
        assert torch.equal(update, same) and torch.equal(state, in_place)
        torch.testing.assert_close(update.double(), double, rtol=1e-4, atol=1e-7)
    made = single.window_gradient(grads, single.init(spec, 1), lambdas)
    window = (grads.double(), exact.init(spec, 1), lambdas.double())
    reference = Learned.window_gradient(exact, *window)
    assert (made - reference).norm() < 1e-4 * reference.norm()


def test_odd_rnnprop_mirrors_its_updates() -> None:
    odd = with_weights(RNNProp(hidden=4))
    odd = odd.with_weights(odd.odd_part(odd.phi))
    grads, theta = gradients(), iterates()
    made = updates(odd, grads, theta)
    torch.testing.assert_close(updates(odd, -grads, theta), -made)
    assert made.abs().max() > 1e-4
    torch.testing.assert_close(odd.odd_part(odd.phi), odd.phi)


@pytest.mark.parametrize("optimizer", LATER, ids=name_of)
@pytest.mark.parametrize("size", [torch.inf, 1e38, 1e20])
def test_huge_gradients_leave_updates_and_states_finite(optimizer: Any, size: float) -> None:
    learned = with_weights(optimizer, torch.float32)
    theta = iterates()[0].float()
    state = learned.init(SPEC, N)
    for step in range(3):
        grads = torch.full((N, SPEC.size), size) if step == 1 else gradients()[step].float()
        update, state = learned.update(grads, state, Params(theta, SPEC))
        assert update.isfinite().all()
        tensors = [state] if isinstance(state, Tensor) else state
        assert all(each.isfinite().all() for each in tensors)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"name": "rnnprop", "hidden": 0}, "hidden must be from 1 to 10,000, not 0"),
        ({"name": "rnnprop", "decay": 1.0}, "decay must be at least 0 and below 1, not 1"),
        ({"name": "rnnprop", "step": 0.0}, "step must be above 0, not 0"),
        ({"name": "small-fc-lopt", "hidden": 0}, "hidden must be from 1 to 10,000, not 0"),
        ({"name": "small-fc-lopt", "epsilon": 0.0}, "epsilon must be above 0, not 0"),
        ({"name": "celo2-base", "weight_decay": -1.0}, "weight_decay must be at least 0, not -1"),
        (
            {"name": "pretrained", "lr": 1.0, "checkpoint": "mnist-lsmt"},
            "did you mean 'mnist-lstm'",
        ),
    ],
)
def test_networks_that_cannot_be_are_refused(spec: dict[str, Any], told: str) -> None:
    with pytest.raises(SuiteError, match=told):
        optimizers.make(spec)
