"""The fused LSTM as an operator of PyTorch: differentiable in everything, known to its tools."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from test_kernels import (
    Case,
    cases,
    fused,
    make_case,
    property_test,
    relative_error,
    rounding,
    unrolled,
)
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from l2l.optimizers.kernels import operators, reference
from l2l.optimizers.kernels.shape import LSTMShape, Scales
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.lstm import LSTM
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Params

pytestmark = fused
SHAPE = LSTMShape(2, 20, 2)
SCALES = Scales(p=10.0, gradient=1.0, update=0.1)


def window(case: Case, by_operator: bool) -> tuple[Tensor, Tensor]:
    """Updates [T, K] and last state, of tensors that may require gradients."""
    shape = case.shape
    if by_operator:
        arrays = (case.weights, case.features, case.state)
        return torch.ops.l2l.lstm(*arrays, shape.layers, shape.hidden)  # type: ignore[no-any-return]
    updates, state = [], case.state
    for x in case.features:
        update, state = reference.step(shape, case.weights, x, state)
        updates.append(update)
    return torch.stack(updates), state


def gradients(case: Case, by_operator: bool) -> list[Tensor]:
    """Of Σ λ·update + Σ s·(last state), with respect to weights, features and state."""
    inputs = [x.clone().requires_grad_() for x in (case.weights, case.features, case.state)]
    updates, last = window(Case(case.shape, *inputs, case.cotangents), by_operator)
    signs = torch.ones_like(last)
    signs[:, 1] = -0.5
    return list(
        torch.autograd.grad((updates * case.cotangents).sum() + (last * signs).sum(), inputs)
    )


@settings(property_test, max_examples=15)
@given(cases)
def test_operator_is_a_window_of_steps_and_differentiable_in_everything(case: Case) -> None:
    double = case.double()
    for value, expected in zip(window(case, True), window(double, False), strict=True):
        assert (value - expected).abs().max() <= 1e-4 * (1 + expected.abs().max())
    # The adjoint of the last state comes back through saturated networks with fewer digits than λ:
    # autograd in float32 is off by up to 2e-5 here. Without it, φ's gradient has the usual bound.
    bounds = (max(rounding(case), 5e-5), 1e-4, 1e-4)
    pairs = zip(bounds, gradients(case, True), gradients(double, False), strict=True)
    for bound, value, expected in pairs:
        assert (value - expected).norm() <= bound * expected.norm() + 1e-30


def test_gradient_of_one_output_alone() -> None:
    case = make_case(SHAPE, 40, 3, seed=1, scale=0.3)
    for number in (0, 1):
        phi = case.weights.clone().requires_grad_()
        moved = Case(case.shape, phi, case.features, case.state, case.cotangents)
        twice = Case(
            case.shape, phi.double(), *(vars(case.double())[n] for n in list(vars(case))[2:])
        )
        (value,) = torch.autograd.grad(window(moved, True)[number].sum(), phi)
        (expected,) = torch.autograd.grad(window(twice, False)[number].sum(), phi)
        assert relative_error(value, expected.double()) <= 1e-5


@pytest.mark.parametrize("shape", [LSTMShape(3, 7, 1)])
def test_operators_pass_pytorchs_own_check(shape: LSTMShape) -> None:
    case = make_case(shape, 50, 3, seed=2, scale=0.3)
    arrays, sizes = (case.weights, case.features, case.state), (shape.layers, shape.hidden)
    ops, grads = torch.ops.l2l, Rng(0, "grads").normal(3, 10, 5)
    torch.library.opcheck(ops.lstm.default, (*arrays, *sizes))
    leaves = tuple(x.clone().requires_grad_() for x in arrays)
    torch.library.opcheck(ops.lstm.default, (*leaves, *sizes))
    network = (*sizes, shape.inputs, *SCALES)
    of_losses = (case.weights, [*grads], case.state, Rng(1, "w").normal(2, 10), 0.9, *network)
    torch.library.opcheck(ops.lstm_loss_gradient.default, of_losses)
    one = (case.weights, grads[0].flatten(), case.state, torch.empty_like(case.state))
    torch.library.opcheck(ops.lstm_update.default, (*one, *network))
    for last, inputs in ((None, False), (case.state, True)):
        given_ = (*arrays, case.cotangents, last, inputs, *sizes)
        torch.library.opcheck(ops.lstm_backward.default, given_)


def test_fake_tensors_have_the_shapes_of_real_ones() -> None:
    case = make_case(SHAPE, 30, 4, seed=3)
    real = [*case.step(operators), case.gradient(operators)]
    with FakeTensorMode() as mode:
        arrays = (case.weights, case.features, case.state, case.cotangents)
        fake = Case(case.shape, *map(mode.from_tensor, arrays))
        made = [*fake.step(operators), fake.gradient(operators)]
        assert [x.shape for x in made] == [x.shape for x in real]
        assert [x.stride() for x in made] == [x.stride() for x in real]


def test_compiled_step_is_one_graph_with_the_same_gradient() -> None:
    case = make_case(SHAPE, 30, 1, seed=4, scale=0.3)

    def loss(phi: Tensor) -> Tensor:
        update, state = operators.step(SHAPE, phi, case.features[0], case.state)
        return update.square().sum() + state.sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    results = []
    for function in (loss, compiled):
        phi = case.weights.clone().requires_grad_()
        results.append(torch.autograd.grad(function(phi), phi)[0])
    assert torch.equal(*results)


def test_compiled_update_in_place_moves_the_state() -> None:
    case = make_case(SHAPE, 30, 1, seed=5)
    grads = Rng(5, "grads").normal(30)
    update, following = operators.update(SHAPE, case.weights, grads, case.state, SCALES)

    def move(state: Tensor) -> Tensor:
        return operators.update(SHAPE, case.weights, grads, state, SCALES, into=state)[0]

    for function in (move, torch.compile(move, backend="aot_eager", fullgraph=True)):
        state = case.state.clone()
        assert torch.equal(function(state), update)
        assert torch.equal(state, following)


def test_updates_in_float32_keep_their_graph_to_phi() -> None:
    """`Learned.window_gradient` unrolls `update` under autograd: it must be the kernel's own."""
    optimizer = LSTM()
    optimizer = optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))
    grads, lambdas = Rng(1, "grads").normal(4, 2, 15), Rng(2, "lambdas").normal(4, 2, 15)
    state = optimizer.layout.initial_state(30, like=grads)
    expected = optimizer.window_gradient(grads, state, lambdas)
    assert (
        relative_error(Learned.window_gradient(optimizer, grads, state, lambdas), expected) < 1e-5
    )

    phi = optimizer.phi.clone().requires_grad_()
    kept = state.clone()
    update, following = optimizer.with_weights(phi).update_in_place(
        grads[0], kept, Params.unread(grads[0])
    )
    assert following is kept
    assert update.requires_grad
    assert following.requires_grad


def test_a_second_derivative_is_refused() -> None:
    case = make_case(SHAPE, 5, 2, seed=6)
    phi = case.weights.clone().requires_grad_()
    updates, _ = window(Case(SHAPE, phi, case.features, case.state, case.cotangents), True)
    (grad,) = torch.autograd.grad(updates.square().sum(), phi, create_graph=True)
    with pytest.raises(NotImplementedError, match="differentiated once only"):
        grad.sum().backward()


def test_long_window_is_that_of_pytorchs_cell() -> None:
    case = make_case(SHAPE, 33, 60, seed=7, scale=0.3)
    assert relative_error(window(case, True)[0], unrolled(case.double())[0]) <= 1e-5
