"""The GPU kernel, in Triton's interpreter where there is no GPU, and when it is taken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moved import moved
from test_kernels import Case, make_case
from torch import Tensor

from l2l.optimizers.kernels import dispatch, library, reference
from l2l.optimizers.kernels.shape import LSTMShape
from l2l.optimizers.learned.lstm import LSTM
from l2l.suite.core.recorded import Recordings
from l2l.suite.core.seeds import Rng

triton_lstm, triton_window = (
    pytest.importorskip(
        f"l2l.optimizers.kernels.{name}", reason="Triton is not installed", exc_type=ImportError
    )
    for name in ("triton_lstm", "triton_window")
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("neither a GPU nor TRITON_INTERPRET=1", allow_module_level=True)

shapes = st.builds(LSTMShape, st.integers(1, 3), st.sampled_from([1, 5, 16, 20]), st.integers(1, 3))
cases = st.builds(
    make_case,
    shapes,
    st.integers(1, 40) | st.sampled_from([32, 64]),
    st.integers(1, 4),
    st.integers(0, 2**32),
    st.sampled_from([0.05, 0.3, 1.0]),
)
some = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def near(value: Tensor, expected: Tensor, bound: float = 1e-5) -> bool:
    error = (value.double().cpu() - expected).norm()
    return bool(error <= bound * expected.norm() + 1e-30)


def by_reference(case: Case) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Updates, last state, and the gradients of weights, features and state in float64.

    They are those of Σ λ·updates plus the sum of the last state.
    """
    double = case.double()
    inputs = [x.requires_grad_() for x in (double.weights, double.features, double.state)]
    made, last = [], inputs[2]
    for x in inputs[1]:
        update, last = reference.step(case.shape, inputs[0], x, last)
        made.append(update)
    updates = torch.stack(made)
    total = (updates * double.cotangents).sum() + last.sum()
    return updates, last, torch.autograd.grad(total, inputs)


@some
@given(cases)
def test_triton_kernel_is_the_reference(case: Case) -> None:
    """Updates, last state, and the gradients of weights, features and state."""
    shape = case.shape
    updates, last, expected = by_reference(case)
    arrays = [x.to(DEVICE) for x in (case.weights, case.features, case.state)]
    # With space between rows, as a run's states have.
    arrays[2] = shape.empty_state(case.state.shape[-1], like=arrays[0]).copy_(arrays[2])
    made_last = shape.empty_state(case.state.shape[-1], like=arrays[0])
    made = triton_lstm.forward(shape, *arrays, made_last)
    scale = case.weights.abs().max() * shape.hidden
    assert (made.cpu() - updates).abs().max() <= 1e-5 * scale
    assert near(made_last, last.detach())
    d_last = torch.ones_like(made_last)
    d_features, d_state = torch.empty_like(arrays[1]), torch.empty_like(made_last)
    cotangents = case.cotangents.to(DEVICE)
    d_weights = triton_lstm.backward(shape, *arrays, cotangents, d_last, d_features, d_state)
    # Sums over units may nearly cancel in the gradients of features and state.
    bounds = (1e-5, 1e-4, 1e-4)
    for bound, value, true in zip(bounds, (d_weights, d_features, d_state), expected, strict=True):
        assert near(value, true, bound)


def test_a_step_may_write_over_its_state() -> None:
    case = make_case(LSTMShape(2, 5, 2), 70, 2, seed=1)
    arrays = [x.to(DEVICE) for x in (case.weights, case.features, case.state)]
    last = torch.empty_like(arrays[2])
    updates = triton_lstm.forward(case.shape, *arrays, last)
    assert torch.equal(triton_lstm.forward(case.shape, *arrays, arrays[2]), updates)
    assert torch.equal(arrays[2], last)


@pytest.fixture(params=[True, False], ids=["pieces", "whole"])
def in_pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a window's gradient is cut into pieces of 1,024 coordinates."""
    if request.param:
        monkeypatch.setattr(triton_window, "SCRATCH", 0)
    monkeypatch.setattr(triton_window, "_recordings", Recordings(calls=2, most=4))
    return bool(request.param)


def test_pieces_change_nothing_but_rounding(in_pieces: bool) -> None:
    case = make_case(LSTMShape(2, 5, 2), 2500, 2, seed=2, scale=0.3)
    assert triton_window._row_length(case.shape, 2, 2500) == (1024 if in_pieces else 3072)
    _, _, expected = by_reference(case)
    arrays = [x.to(DEVICE) for x in (case.weights, case.features, case.state, case.cotangents)]
    d_last = torch.ones_like(arrays[2])
    d_features, d_state = torch.empty_like(arrays[1]), torch.empty_like(arrays[2])
    given = (case.shape, *arrays, d_last, d_features, d_state)
    first, second = (triton_window.backward(*given) for _ in range(2))
    assert torch.equal(first, second)
    for value, true in zip((first, d_features, d_state), expected, strict=True):
        assert near(value, true)


def test_pieces_fit_the_coordinates() -> None:
    """A window of 20 of the paper's network has pieces of at most 22,528 coordinates."""
    shape = LSTMShape(2, 20, 2)
    for n in (1, 1024, 16_000, 22_529, 26_000, 45_057, 10**6):
        row = triton_window._row_length(shape, 20, n)
        work = -(-n // row) * row
        assert row <= 22_528 and row % triton_window.PARTS == 0
        assert work <= max(triton_window.ROW, 1.25 * n)
    assert triton_window._row_length(shape, 2000, 10**6) == triton_window.ROW


def test_window_of_no_coordinates_has_a_zero_gradient() -> None:
    case = make_case(LSTMShape(2, 5, 2), 8, 2, seed=3)
    given = (case.weights, case.features, case.state, case.cotangents)
    weights, *others = (x.to(DEVICE) for x in given)
    found = triton_window.backward(
        case.shape, weights, *(x[..., :0] for x in others), None, None, None
    )
    assert torch.equal(found, torch.zeros_like(weights))


@pytest.mark.parametrize("discount", [1.0, 0.8])
@pytest.mark.parametrize("kind", ["log", "scale"])
def test_gradient_of_losses_is_the_references(kind: str, discount: float, in_pieces: bool) -> None:
    """Two runs of their own weights; a third of the gradients is 0 after the first."""
    optimizer = LSTM(preprocessing=kind, p=2.0, hidden=5, output_scale=0.3)
    optimizer = optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))
    shape, scales = optimizer.layout, optimizer.scales
    grads, weights = Rng(1, "grads").normal(4, 2, 1800), Rng(2, "weights").uniform(3, 2)
    grads[1:, :, ::3] = 0
    state = shape.initial_state(3600, like=grads)
    state.copy_(Rng(3, "state").normal(*state.shape))
    double = optimizer.with_weights(optimizer.phi.double())
    expected = double.loss_gradient([*grads.double()], state.double(), weights.double(), discount)
    phi, window, before, of_losses = (x.to(DEVICE) for x in (optimizer.phi, grads, state, weights))
    for _ in range(2):
        found = triton_window.loss_gradient(
            shape, phi, [*window], before, of_losses, discount, scales
        )
        assert near(found, expected)
    window[1:] = 0
    nothing = triton_window.loss_gradient(
        shape, phi, [*window], before, of_losses, discount, scales
    )
    assert not nothing.any()


@pytest.fixture
def operators_by_triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The operators as they are on a GPU, and nothing known of devices."""
    monkeypatch.setattr(library, "implementation", lambda like: triton_lstm)
    dispatch._fused_gpu.cache_clear()
    yield
    dispatch._fused_gpu.cache_clear()


@pytest.mark.usefixtures("operators_by_triton")
def test_kernel_that_agrees_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[float] = []
    check = dispatch.self_check

    def noted(shape: LSTMShape, device: torch.device) -> float:
        errors.append(check(shape, device))
        return errors[-1]

    monkeypatch.setattr(dispatch, "self_check", noted)
    assert dispatch._fused_gpu(LSTMShape(1, 4, 2), torch.device(DEVICE))
    assert len(errors) == 1 and errors[0] < 1e-5


@pytest.mark.usefixtures("operators_by_triton")
@pytest.mark.parametrize("kind", ["log", "scale"])
def test_update_from_gradients_is_the_references(kind: str) -> None:
    optimizer = LSTM(preprocessing=kind, p=2.0, hidden=5)
    phi, grads = optimizer.initial_weights(Rng(0, "phi")), Rng(1, "grads").normal(2, 9)
    state = optimizer.layout.initial_state(18, like=grads)
    expected = moved(optimizer.with_weights(phi.double()), grads.double(), state.double())
    fused = optimizer.with_weights(phi.to(DEVICE))
    update, following = moved(fused, grads.to(DEVICE), state.to(DEVICE))
    assert near(update, expected[0])
    assert near(following, expected[1])


@pytest.mark.usefixtures("operators_by_triton")
def test_kernel_that_differs_or_fails_is_not_taken_after_one_notice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shape, device = LSTMShape(1, 4, 1), torch.device(DEVICE)

    def wrong(*arguments: object) -> Tensor:
        return backward(*arguments) * 1.01

    def wrong_adjoint(*arguments: object, factor: float = 1.01) -> Tensor:
        *_, d_state = arguments
        d_weights = backward(*arguments)
        if d_state is not None:
            d_state.mul_(factor)  # type: ignore[attr-defined]
        return d_weights

    def wrong_in_place(*arguments: Tensor) -> Tensor:
        *_, state, last = arguments
        updates = forward(*arguments)
        if last.data_ptr() == state.data_ptr():
            last.mul_(1.01)
        return updates

    def failing(*_: object) -> Tensor:
        raise RuntimeError("no such instruction\nand more lines")

    def wrong_of_losses(*arguments: object) -> Tensor:
        return loss_gradient(*arguments) * 1.01

    forward, backward = triton_lstm.forward, triton_lstm.backward
    loss_gradient = triton_lstm.loss_gradient
    differs = "differs from the reference by"
    for name, function, told in (
        ("backward", wrong, differs),
        ("backward", wrong_adjoint, differs),
        ("backward", partial(wrong_adjoint, factor=torch.nan), differs),
        ("backward", failing, "no such instr"),
        ("forward", wrong_in_place, differs),
        ("loss_gradient", wrong_of_losses, differs),
    ):
        dispatch._fused_gpu.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(triton_lstm, name, function)
            with pytest.warns(UserWarning, match=told) as notices:
                assert not dispatch._fused_gpu(shape, device)
                assert not dispatch._fused_gpu(shape, device)
            assert len(notices) == 1
