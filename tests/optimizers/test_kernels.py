"""The fused LSTM kernels against their definition, and what happens where they cannot be built."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from moved import moved
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from l2l.optimizers.kernels import dispatch, operators, reference
from l2l.optimizers.kernels.cpu import lstm_library
from l2l.optimizers.kernels.shape import LSTMShape, Scales
from l2l.optimizers.learned.adjoints import adjoints_by_autograd
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.lstm import LSTM
from l2l.optimizers.learned.scaled_lstm import ScaledLSTM
from l2l.suite.core import native_build as build
from l2l.suite.core.abilities import has
from l2l.suite.core.seeds import Rng
from l2l.suite.core.team import Team
from l2l.suite.core.types import Params

# Each is compiled once (a second or two): odd and even hidden units, and sizes that leave every
# remainder in the kernels' blocks of 10, 5, 4 and 2.
SHAPES = [
    LSTMShape(1, 1, 1),
    LSTMShape(2, 20, 2),
    LSTMShape(2, 20, 1),
    LSTMShape(3, 7, 2),
    LSTMShape(1, 24, 1),
    LSTMShape(2, 15, 2),
]
SIZES = [0.0, 1e-30, 1e-5, 1.0, 1e8, 1e30]
# What a gradient may be: 0, too small to matter, around the threshold e^−10, usual, huge, infinite.
GRADIENTS = [0.0, 1e-30, -1e-30, 4.5e-5, -4.6e-5, 0.02, -1.0, 1e30, -1e30, torch.inf, -torch.inf]

try:
    lstm_library(LSTMShape(1, 1, 1))
    BUILDS = ""
except build.BuildError as error:
    BUILDS = str(error)
fused = pytest.mark.skipif(bool(BUILDS), reason=f"no fused kernel here: {BUILDS}")


T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """A window on K coordinates, in float32; `double` is the same in float64."""

    shape: LSTMShape
    weights: Tensor
    features: Tensor
    state: Tensor
    cotangents: Tensor

    def double(self) -> Case:
        arrays = (self.weights, self.features, self.state, self.cotangents)
        return Case(self.shape, *(x.double() for x in arrays))

    def step(self, kernel: object) -> tuple[Tensor, Tensor]:
        return kernel.step(self.shape, self.weights, self.features[0], self.state)  # type: ignore[attr-defined]

    def gradient(self, kernel: object) -> Tensor:
        return kernel.gradient(  # type: ignore[attr-defined]
            self.shape, self.weights, self.features, self.state, self.cotangents
        )


def make_case(shape: LSTMShape, k: int, steps: int, seed: int, scale: float = 1.0) -> Case:
    rng = Rng(seed, "kernels")
    features = rng.normal(steps, shape.inputs, k)
    if shape.inputs == 2:
        # As they come out of preprocessing, of anything that a gradient may be.
        values = torch.tensor(GRADIENTS)[rng.integers(len(GRADIENTS), steps, 1, k)]
        own = rng.uniform(steps, 1, k) < 0.5
        features = LSTM().features(torch.where(own, values, rng.normal(steps, 1, k)))
    return Case(
        shape,
        scale * rng.normal(shape.size),
        features,
        rng.normal(shape.layers, 2, shape.hidden, k).clamp(-3, 3),
        rng.normal(steps, k),
    )


def cases_of(coordinates: st.SearchStrategy[int]) -> st.SearchStrategy[Case]:
    return st.builds(
        make_case,
        st.sampled_from(SHAPES),
        coordinates,
        st.integers(1, 9),
        st.integers(0, 2**32),
        # From nearly linear to saturated units.
        st.sampled_from([0.05, 0.3, 1.0]),
    )


few = st.integers(1, 100)
cases = cases_of(few | st.sampled_from([16, 32, 64, 1023, 1025, 2100]))
property_test = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def unrolled(case: Case) -> tuple[Tensor, Tensor]:
    """Updates [T, K], and the gradient of Σ λ·update by PyTorch's own LSTM cell and autograd."""
    shape = case.shape
    phi = case.weights.clone().requires_grad_()
    parts = shape.split(phi)
    h, c = ([state[kind].T for state in case.state] for kind in (0, 1))
    updates = []
    for x in case.features:
        below = x.T
        for layer in range(shape.layers):
            w, b = parts[f"layers.{layer}.weight"], parts[f"layers.{layer}.bias"]
            w_x, w_h = w.split([w.shape[1] - shape.hidden, shape.hidden], dim=1)
            zero = torch.zeros_like(b)
            h[layer], c[layer] = torch.lstm_cell(below, (h[layer], c[layer]), w_x, w_h, b, zero)
            below = h[layer]
        updates.append(below @ parts["output.weight"] + parts["output.bias"])
    (grad,) = torch.autograd.grad((torch.stack(updates) * case.cotangents).sum(), phi)
    return torch.stack(updates).detach(), grad


def relative_error(value: Tensor, expected: Tensor) -> float:
    return ((value.double() - expected).norm() / expected.norm()).item()


def rounding(case: Case) -> float:
    """How far float32 may be off: its digits go where cotangents cancel.

    Their sum is the gradient of the output's bias, and as a rule of the size of their norm.
    """
    kept = (case.cotangents.double().sum() / case.cotangents.double().norm()).abs().item()
    return 1e-5 / min(1.0, kept)


@property_test
@given(cases_of(few))  # unlike the kernels, it has neither blocks nor chunks
def test_reference_is_an_unrolled_lstm_in_float64(case: Case) -> None:
    double = case.double()
    updates, grad = unrolled(double)
    assert relative_error(double.gradient(reference), grad) <= 1e-10
    assert relative_error(double.step(reference)[0], updates[0]) <= 1e-10


@fused
@property_test
@given(cases)
def test_fused_gradient_is_that_of_the_unrolled_lstm(case: Case) -> None:
    _, grad = unrolled(case.double())
    assert relative_error(case.gradient(operators), grad) <= rounding(case)


@fused
@property_test
@given(cases)
def test_fused_step_is_the_references(case: Case) -> None:
    expected, expected_state = case.double().step(reference)
    update, state = case.step(operators)
    scale = case.weights.abs().max().item()
    assert (update - expected).abs().max() <= 1e-5 * scale * case.shape.hidden
    assert relative_error(state, expected_state) <= 1e-5


@fused
@pytest.mark.usefixtures("older_processor")
def test_older_processors_get_the_same_numbers() -> None:
    """Also powers of 2 without AVX-512's instructions for them."""
    for scale in (0.3, 1.0):
        case = make_case(LSTMShape(2, 20, 2), 333, 5, seed=3, scale=scale)
        _, grad = unrolled(case.double())
        assert relative_error(case.gradient(operators), grad) <= 1e-5
        assert relative_error(case.step(operators)[1], case.double().step(reference)[1]) <= 1e-5
    test_update_from_gradients_is_that_of_their_features("log", 4.0)
    test_loss_gradient_is_the_references_in_float64("log", 3, 0.8, 40.0)
    test_infinite_gradient_counts_as_the_largest_and_nan_spreads()


@fused
@property_test
@given(cases)
def test_stepping_carries_the_state_that_gradients_are_computed_from(case: Case) -> None:
    """The gradient of two windows is what the state after the first one makes of the second."""
    assume(len(case.features) > 1)
    _, state = case.step(operators)
    rest = Case(case.shape, case.weights, case.features[1:], state, case.cotangents[1:])
    expected = unrolled(rest.double())[1]
    assert relative_error(rest.gradient(operators), expected) <= rounding(rest)


@fused
@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *((kind, size) for kind in ("log", "scale", "none") for size in SIZES),
        # Only the logarithm makes finite inputs of infinite gradients.
        ("log", torch.inf),
    ],
)
def test_gradients_of_any_size_give_an_exact_meta_gradient(kind: str, size: float) -> None:
    rng = Rng(3, "sizes")
    optimizer = LSTM(preprocessing=kind, p=3.0)
    optimizer = optimizer.with_weights(optimizer.initial_weights(rng))
    signs = rng.normal(5, 2, 23).sign()
    grads, finite = signs * size, signs * min(size, torch.finfo(torch.float32).max)
    lambdas = rng.normal(5, 2, 23)
    state = optimizer.layout.initial_state(46, like=lambdas)
    double = optimizer.with_weights(optimizer.weights.double())
    expected = double.window_gradient(finite.double(), state.double(), lambdas.double())
    assert expected.isfinite().all()
    assert relative_error(optimizer.window_gradient(grads, state, lambdas), expected) <= 1e-5


@fused
@pytest.mark.parametrize("kind", ["log", "scale", "none"])
@pytest.mark.parametrize("steps", [1, 3, 20])
@pytest.mark.parametrize(("discount", "input_scale"), [(1.0, 1.0), (0.8, 1.0), (0.8, 40.0)])
def test_loss_gradient_is_the_references_in_float64(
    kind: str, steps: int, discount: float, input_scale: float
) -> None:
    """Three runs of their own weights, with coordinates whose gradients are 0 now and then."""
    rng = Rng(3, "losses")
    optimizer = ScaledLSTM(
        preprocessing=kind,
        p=10.0 if kind == "log" else 1.0,
        output_scale=0.3,
        input_scale=input_scale,
    )
    optimizer = optimizer.with_weights(optimizer.initial_weights(rng))
    runs, width = 3, 211
    values = torch.tensor(GRADIENTS[:6])[rng.integers(6, steps + 1, runs, width)]
    own = rng.uniform(steps + 1, runs, width) < 0.5
    grads = torch.where(own, values, rng.normal(steps + 1, runs, width))
    grads[:, :, 10:20] = 0
    grads[1:, :, 20:30] = 0
    grads[0, :, 30:40] = 0
    weights = 0.1 + rng.uniform(steps, runs)
    state = optimizer.layout.initial_state(runs * width, like=grads)
    state.copy_(rng.normal(*state.shape).clamp(-3, 3))
    gradient = optimizer.loss_gradient([*grads], state, weights, discount)
    double = optimizer.with_weights(optimizer.phi.double())
    expected = double.loss_gradient([*grads.double()], state.double(), weights.double(), discount)
    assert relative_error(gradient, expected) <= 1e-5


@fused
def test_loss_gradient_takes_tensors_of_a_graph_and_no_runs_at_all() -> None:
    optimizer = LSTM(weights=LSTM().initial_weights(Rng(0, "phi")))
    grads, weights = Rng(1, "grads").normal(3, 2, 5), torch.ones(2, 2)
    state = optimizer.layout.initial_state(10, like=grads)
    expected = optimizer.loss_gradient([*grads], state, weights, 1.0)
    leaves = [x.clone().requires_grad_() for x in (optimizer.phi, grads, state, weights)]
    made = optimizer.with_weights(leaves[0]).loss_gradient([*leaves[1]], *leaves[2:], 1.0)
    assert torch.equal(made, expected)
    assert not made.requires_grad
    none = optimizer.loss_gradient([*grads[:, :0]], state[..., :0], weights[:, :0], 1.0)
    assert torch.equal(none, torch.zeros_like(expected))


def update_into(
    optimizer: LSTM, grads: Tensor, state: Tensor, into: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The update of gradients [n, P], the next state written in a given memory."""
    given = (grads.flatten(), state, optimizer.scales, into)
    update, following = operators.update(optimizer.layout, optimizer.phi, *given)
    return update.view_as(grads), following


class Halved(LSTM):
    """Its network sees half of each gradient."""

    def features(self, grads: Tensor) -> Tensor:
        return super().features(grads / 2)


class Doubled(LSTM):
    """Its updates are twice the network's."""

    def update(self, grads: Tensor, state: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        update, state = super().update(grads, state, params)
        return 2 * update, state


class Silent(LSTM):
    """Nothing is learned of it."""

    def window_gradient(
        self, grads: Tensor, state: Tensor, cotangents: Tensor, params: Params | None = None
    ) -> Tensor:
        return torch.zeros_like(self.phi)


@fused
def test_subclass_keeps_its_own_gradient_of_a_window() -> None:
    optimizer = Silent(weights=Rng(0, "phi").normal(LSTM().layout.size))
    state = optimizer.layout.initial_state(3, like=optimizer.phi)
    assert not optimizer.loss_gradient([torch.ones(1, 3)] * 2, state, torch.ones(1, 1), 1.0).any()


@fused
@pytest.mark.parametrize("kind", [Halved, Doubled])
def test_subclass_keeps_its_own_features_and_updates(kind: type[LSTM]) -> None:
    optimizer = kind(weights=0.3 * Rng(0, "phi").normal(LSTM().layout.size))
    double = optimizer.with_weights(optimizer.phi.double())
    grads, weights = Rng(1, "grads").normal(4, 2, 5), Rng(2, "weights").uniform(3, 2)
    state = Rng(3, "state").normal(2, 2, 20, 10)
    update, following = moved(optimizer, grads[0], state)
    expected = moved(double, grads[0].double(), state.double())
    plain, _ = moved(LSTM(weights=optimizer.weights), grads[0], state)
    assert relative_error(update, expected[0]) <= 1e-5
    assert relative_error(following, expected[1]) <= 1e-5
    assert not torch.allclose(update, plain, rtol=1e-2)

    gradient = optimizer.loss_gradient([*grads], state, weights, 1.0)
    doubles = ([*grads.double()], state.double(), weights.double(), 1.0)
    assert relative_error(gradient, Learned.loss_gradient(double, *doubles)) <= 1e-5
    made = optimizer.adjoints(grads[0], state, grads[1], [state])
    true = adjoints_by_autograd(
        double, *(x.double() for x in (grads[0], state, grads[1])), [state.double()]
    )
    for value, known in zip(tree_leaves(made[:3]), tree_leaves(true[:3]), strict=True):
        assert relative_error(value, known) <= 1e-5
    assert not made.theta.any()
    assert not has(optimizer, "fused")
    assert has(optimizer, "update_in_place") == (kind is Halved)


@fused
def test_results_do_not_depend_on_pytorchs_default_type() -> None:
    case = make_case(LSTMShape(2, 20, 2), 70, 3, seed=8)
    optimizer = LSTM(weights=case.weights)
    grads, weights = Rng(1, "grads").normal(4, 2, 35), torch.ones(3, 2)

    def results() -> list[Tensor]:
        return [
            *case.step(operators),
            case.gradient(operators),
            optimizer.loss_gradient([*grads], case.state, weights, 1.0),
            *moved(optimizer, grads[0], case.state),
        ]

    expected = results()
    for other in (torch.float64, torch.float16):
        torch.set_default_dtype(other)
        try:
            made = results()
        finally:
            torch.set_default_dtype(torch.float32)
        assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))


@fused
@pytest.mark.parametrize("kind", ["log", "scale", "none"])
@pytest.mark.parametrize("input_scale", [1.0, 4.0])
def test_update_from_gradients_is_that_of_their_features(kind: str, input_scale: float) -> None:
    """Over all sizes of float32, denormal ones too, and at the threshold e^−p."""
    optimizer = ScaledLSTM(
        preprocessing=kind,
        p=10.0 if kind == "log" else 2.0,
        output_scale=0.3,
        input_scale=input_scale,
    )
    optimizer = optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))
    sizes = torch.logspace(-44, 38, 1000).tolist()
    edge = math.exp(-10) / input_scale
    values = [*GRADIENTS[:-2], 0.999999 * edge, 1.000001 * edge, *sizes, *(-x for x in sizes)]
    most = (torch.finfo(torch.float32).max if kind == "log" else 1e3) / input_scale
    grads = torch.tensor([values]).clamp(-most, most)
    state = Rng(1, "state").normal(2, 2, 20, grads.numel()).clamp(-3, 3)
    update, following = moved(optimizer, grads, state)
    double = optimizer.with_weights(optimizer.phi.double())
    expected, expected_state = moved(double, grads.double(), state.double())
    assert (update - expected).abs().max() <= 2e-6
    assert (following - expected_state).abs().max() <= 2e-5


@fused
def test_infinite_gradient_counts_as_the_largest_and_nan_spreads() -> None:
    optimizer = LSTM(weights=LSTM().initial_weights(Rng(0, "phi")))
    largest = torch.finfo(torch.float32).max
    grads = torch.tensor([[torch.inf, -torch.inf, largest, -largest, torch.nan]])
    update, state = moved(optimizer, grads, optimizer.layout.initial_state(5, like=grads))
    assert torch.equal(update[:, :2], update[:, 2:4])
    assert state[..., :4].isfinite().all()
    assert update[0, 4].isnan()


@fused
@pytest.mark.parametrize("k", [1, 5, 16, 37])
def test_rows_of_the_state_may_be_spaced_in_any_even_way(k: int) -> None:
    shape = LSTMShape(2, 20, 2)
    case = make_case(shape, k, 1, seed=k)
    grads, lambdas = Rng(k, "grads").normal(3, 1, k), Rng(k, "lambdas").normal(2, 1)
    optimizer = LSTM(weights=0.2 * case.weights)
    expected = moved(optimizer, grads[0], case.state)
    gradient = optimizer.loss_gradient([*grads], case.state, lambdas, 1.0)
    for spare in (0, 3, 16):
        wide = torch.full((2, 2, 20, k + spare), torch.nan)
        state = wide[..., :k].copy_(case.state)
        assert torch.equal(optimizer.loss_gradient([*grads], state, lambdas, 1.0), gradient)
        for into in (None, torch.empty(2, 2, 20, k + 5)[..., :k], state):
            update, following = update_into(optimizer, grads[0], state, into)
            assert torch.equal(update, expected[0])
            assert torch.equal(following, expected[1])
            assert into is None or following is into
        assert wide[..., k:].isnan().all(), "nothing is written between rows"


def test_rows_of_a_fresh_state_begin_on_cache_lines() -> None:
    state = LSTMShape(2, 20, 2).initial_state(21, like=torch.empty(0))
    assert state.shape == (2, 2, 20, 21)
    assert all(row.data_ptr() % 64 == 0 for row in state.flatten(0, 2))


@fused
def test_state_is_not_written_where_it_is_still_to_be_read() -> None:
    optimizer = LSTM(hidden=4, weights=Rng(0, "phi").normal(LSTM(hidden=4).layout.size))
    grads, memory = torch.ones(1, 40), torch.zeros(3 * 16 * 48)

    def at(offset: int, row: int) -> Tensor:
        return memory[offset:].as_strided((2, 2, 4, 40), (8 * row, 4 * row, row, 1), offset)

    state = at(0, 48)
    # By one row, all but one, a float at the end, and with other rows.
    for into in (at(16, 48), at(48, 48), at(15 * 48, 48), at(15 * 48 + 39, 48), at(0, 40)):
        with pytest.raises(ValueError, match="last element of the state"):
            update_into(optimizer, grads, state, into)
        with pytest.raises(ValueError, match="last element of the state"):
            update_into(optimizer, grads, into, state)
    update, following = moved(optimizer, grads, state)
    for into in (at(16 * 48, 48), at(16 * 48 - 8, 40), state):
        assert torch.equal(update_into(optimizer, grads, state, into)[0], update)
        assert torch.equal(into, following)
    with pytest.raises(ValueError, match="last element of the weights"):
        inside = optimizer.with_weights(memory[100 : 100 + optimizer.layout.size])
        update_into(inside, grads, torch.zeros_like(state), state)
    for start in (0, 16, 15 * 48 + 39):
        with pytest.raises(ValueError, match="last element of the gradients"):
            given = memory[start : start + 40].view(1, 40)
            update_into(optimizer, given, torch.zeros_like(state), state)


@fused
def test_state_of_one_coordinate_or_layer_is_itself_with_any_stride_where_there_is_one() -> None:
    for layers, k in ((1, 5), (2, 1)):
        shape = LSTMShape(layers, 4, 2)
        optimizer = LSTM(layers, 4, weights=Rng(0, "phi").normal(shape.size))
        state = Rng(1, "state").normal(layers, 2, 4, k)
        update, following = moved(optimizer, torch.ones(1, k), state)
        strides = (999 if layers == 1 else 8 * k, 4 * k, k, 777 if k == 1 else 1)
        same = state.as_strided(state.shape, strides)
        assert torch.equal(update_into(optimizer, torch.ones(1, k), state, same)[0], update)
        assert torch.equal(state, following)


def on_threads(numbers: Sequence[int], function: Callable[[], T]) -> list[T]:
    """What the function gives on each number of threads, all of which take part."""
    before, results = torch.get_num_threads(), []
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(Team, "run", lambda _, kind, work, most, call: call(most))
    try:
        for number in numbers:
            torch.set_num_threads(number)
            results.append(function())
    finally:
        torch.set_num_threads(before)
        monkeypatch.undo()
    return results


@fused
def test_sum_over_chunks_is_in_the_same_order_on_any_number_of_threads() -> None:
    # The second run's losses count as much as the first's, but negative, so that nothing remains
    # of the sum but its roundings, which there are where chunks differ by orders of magnitude.
    width = 64 * 512
    optimizer = LSTM(weights=0.3 * Rng(0, "phi").normal(LSTM().layout.size))
    size = (10 ** (16 * Rng(3, "size").uniform(64) - 8)).repeat_interleave(512)
    grads = [x.expand(2, width).contiguous() for x in size * Rng(1, "grads").normal(3, width)]
    state = Rng(2, "state").normal(2, 2, 20, width).repeat(1, 1, 1, 2)
    weights = torch.tensor([1.0, -1.0]).expand(2, 2)
    results = on_threads(
        (1, 2, 3, 2, 3), lambda: optimizer.loss_gradient(grads, state, weights, 1.0)
    )
    alone = optimizer.loss_gradient([x[:1] for x in grads], state[..., :width], weights[:, :1], 1.0)
    assert results[0].count_nonzero() > 1000
    assert results[0].abs().max() < 1e-12 * alone.abs().max()
    assert all(torch.equal(results[0], other) for other in results[1:])


@fused
@pytest.mark.parametrize("k", [1, 31, 3000])
def test_results_do_not_depend_on_the_number_of_threads(k: int) -> None:
    case = make_case(LSTMShape(2, 20, 2), k, 4, seed=k)
    optimizer, lambdas = LSTM(weights=case.weights), Rng(k, "lambdas").normal(4, 1)
    grads = list(Rng(k, "grads").normal(5, 1, k))
    results = on_threads(
        (1, 2, 3),
        lambda: [
            optimizer.loss_gradient(grads, case.state, lambdas, 0.9),
            case.gradient(operators),
            *case.step(operators),
        ],
    )
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@fused
def test_update_of_a_coordinate_does_not_depend_on_the_others() -> None:
    case = make_case(LSTMShape(2, 20, 2), 50, 1, seed=5)
    update, state = case.step(operators)
    alone = Case(
        case.shape, case.weights, case.features[..., 37:38], case.state[..., 37:38], case.cotangents
    ).step(operators)
    assert torch.equal(alone[0], update[37:38])
    assert torch.equal(alone[1], state[..., 37:38])


@fused
def test_inputs_that_are_views_are_read_as_what_they_show() -> None:
    case = make_case(LSTMShape(2, 20, 2), 40, 3, seed=6)
    every_other = Case(
        case.shape,
        case.weights,
        case.features[..., ::2],
        case.state[..., ::2],
        case.cotangents[:, ::2],
    )
    copied = Case(
        case.shape,
        *(
            x.clone(memory_format=torch.contiguous_format)
            for x in vars(every_other).values()
            if isinstance(x, Tensor)
        ),
    )
    assert torch.equal(every_other.gradient(operators), copied.gradient(operators))
    assert torch.equal(every_other.step(operators)[0], copied.step(operators)[0])


@fused
def test_wrong_shapes_and_types_are_refused_and_not_read_beyond() -> None:
    case = make_case(LSTMShape(1, 1, 1), 5, 2, seed=0)
    with pytest.raises(ValueError, match=r"state must be float32 \[1, 2, 1, 5\]"):
        operators.step(case.shape, case.weights, case.features[0], case.state[..., :4])
    with pytest.raises(ValueError, match="cotangents must be float32"):
        operators.gradient(
            case.shape, case.weights, case.features, case.state, case.cotangents.double()
        )
    with pytest.raises(ValueError, match="weights must be float32"):
        operators.step(case.shape, case.weights[:-1], case.features[0], case.state)
    optimizer = LSTM(1, 1, "none", weights=case.weights)
    every_other = torch.empty(1, 2, 1, 10)[..., ::2]
    with pytest.raises(ValueError, match="rows of into must be contiguous"):
        update_into(optimizer, torch.ones(1, 5), case.state, every_other)
    with pytest.raises(ValueError, match="evenly spaced and apart"):
        update_into(optimizer, torch.ones(1, 5), case.state, torch.empty(5).expand(1, 2, 1, 5))
    with pytest.raises(ValueError, match=r"gradients must be float32 \[1, 5\]"):
        optimizer.loss_gradient(
            [torch.ones(1, 5), torch.ones(1, 4)], case.state, torch.ones(1, 1), 1.0
        )
    three = LSTMShape(1, 1, 3)
    with pytest.raises(ValueError, match="one input or two, not 3"):
        operators.update(
            three, torch.ones(three.size), torch.ones(5), case.state, Scales(1.0, 1.0, 1.0)
        )
    with pytest.raises(ValueError, match=r"must have at least one step, so two gradients, not 1"):
        optimizer.loss_gradient([torch.ones(1, 5)], case.state, torch.ones(0, 1), 1.0)
    for function in (operators.gradient, lambda *x: torch.ops.l2l.lstm(*x[1:4], 1, 1)):
        with pytest.raises(ValueError, match="must have at least one step"):
            function(case.shape, case.weights, case.features[:0], case.state, case.cotangents[:0])
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        window = (fake.from_tensor(x) for x in (case.weights, case.features[:0], case.state))
        with pytest.raises(ValueError, match="must have at least one step"):
            torch.ops.l2l.lstm(*window, 1, 1)
    with pytest.raises(ValueError, match=r"features must be \[T, inputs, K\], not \[1, 5\]"):
        torch.ops.l2l.lstm(case.weights, case.features[0], case.state, 1, 1)
    with pytest.raises(ValueError, match=r"gradients must be \[n, P\], not \[5\]"):
        optimizer.loss_gradient([torch.ones(5)] * 2, case.state, torch.ones(1, 1), 1.0)
    with pytest.raises(ValueError, match=r"loss_weights must be float32 \[1, 1\]"):
        optimizer.loss_gradient([torch.ones(1, 5)] * 2, case.state, torch.ones(2, 1), 1.0)


@pytest.fixture
def fresh_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of compiled kernels, and nothing known of earlier ones."""

    def forget() -> None:
        build.load_library.cache_clear()
        dispatch._fused_cpu.cache_clear()

    monkeypatch.setenv("L2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    # What is compiled here is not computed with, and a compiler that optimises takes longest.
    flags = ("-O0" if flag == "-O3" else flag for flag in build.FLAGS)
    monkeypatch.setattr(build, "FLAGS", tuple(flags))
    forget()
    yield tmp_path / "cache"
    monkeypatch.undo()
    forget()


def _no_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))


def _compiler_named_but_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/c++")


def _failing_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = folder / "broken-c++"
    script.write_text("#!/bin/sh\necho 'internal compiler error' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))


def _compiler_that_is_no_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = folder / "no-program"
    script.write_bytes(b"\x7fELF and no more")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{script}' -O2")


def _cache_is_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cache").write_text("")


def _no_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("L2L_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", unknown)


Moved = tuple[LSTM, Tensor, Tensor, tuple[Tensor, Tensor] | None]


@pytest.fixture(scope="module")
def moved_by_the_kernel() -> Moved:
    """An optimizer, gradients, a state, and what the kernel makes of them where there is one."""
    case = make_case(LSTMShape(2, 20, 2), 30, 3, seed=1)
    optimizer, grads = LSTM(weights=case.weights), Rng(1, "grads").normal(2, 15)
    expected = None if BUILDS else moved(optimizer, grads, case.state)
    return optimizer, grads, case.state, expected


@pytest.mark.parametrize(
    ("obstacle", "told"),
    [
        (_no_compiler, r"no C\+\+ compiler \(g\+\+, clang\+\+, c\+\+\) was found"),
        (_compiler_named_but_missing, r"no C\+\+ compiler \(/nonexistent/c\+\+\) was found"),
        (_failing_compiler, "broken-c.. failed: internal compiler error"),
        (_compiler_that_is_no_program, "no-program cannot be run: Exec format error"),
        (_cache_is_a_file, "cache cannot be written: .* set L2L_CACHE to a folder that can"),
        (_no_home, "the user has no home folder; set L2L_CACHE to a folder"),
    ],
)
def test_without_a_fused_kernel_the_reference_serves_after_one_notice(
    obstacle: Callable[[Path, pytest.MonkeyPatch], None],
    told: str,
    moved_by_the_kernel: Moved,
    fresh_build: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    optimizer, grads, state, expected = moved_by_the_kernel
    obstacle(tmp_path, monkeypatch)
    with pytest.warns(UserWarning, match=told) as notices:
        update, following = moved(optimizer, grads, state)
        moved(optimizer, grads, state)
        optimizer.window_gradient(grads.unsqueeze(0), state, grads.unsqueeze(0))
    assert len(notices) == 1
    assert dispatch.kernel_for(optimizer.layout, grads) is reference
    if expected is not None:
        assert torch.allclose(update, expected[0], atol=1e-6)
        assert torch.allclose(following, expected[1], atol=1e-5)


@fused
def test_kernel_is_compiled_once_and_then_taken_from_the_cache(
    fresh_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lstm_library(LSTMShape(1, 1, 1))
    libraries = list(fresh_build.iterdir())
    assert len(libraries) == 1, "one library, and nothing that building left behind"
    build.load_library.cache_clear()

    def refuse(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(build, "_build", refuse)
    assert lstm_library(LSTMShape(1, 1, 1)).lstm_weights() == LSTMShape(1, 1, 1).size
    with pytest.raises(AssertionError, match="compiled again"):
        lstm_library(LSTMShape(1, 2, 1))


@fused
@pytest.mark.parametrize("command", ["'{0}/un répertoire/ccache' g++", "{0}/my c++"])
def test_compiler_may_be_a_command_with_arguments_or_a_path_with_spaces(
    command: str, tmp_path: Path, fresh_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "un répertoire" / "ccache"
    wrapper.parent.mkdir()
    wrapper.write_text('#!/bin/sh\nexec "$@"\n')
    wrapper.chmod(0o755)
    path = tmp_path / "my c++"
    path.write_text('#!/bin/sh\nexec g++ "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("CXX", command.format(tmp_path))
    monkeypatch.setenv("L2L_CACHE", str(tmp_path / "caché of mine"))
    assert lstm_library(LSTMShape(1, 1, 1)).lstm_weights() == LSTMShape(1, 1, 1).size


def test_cache_may_be_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("L2L_CACHE", ".")
    assert build.cache_folder() == tmp_path.resolve()


def test_damaged_library_in_the_cache_is_no_crash(
    fresh_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(command: list[str], flags: list[str], source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True)
        target.write_bytes(b"\x7fELF and no more")

    monkeypatch.setattr(build, "_build", damaged)
    monkeypatch.setattr(build, "compiler", lambda: ["true"])
    with pytest.warns(UserWarning, match="cannot be loaded"):
        assert dispatch.kernel_for(LSTMShape(1, 1, 1), torch.zeros(1)) is reference


def test_float64_and_other_devices_take_the_reference() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert dispatch.kernel_for(SHAPES[0], torch.zeros(1).double()) is reference
        assert dispatch.kernel_for(SHAPES[0], torch.zeros(1, device="meta")) is reference


def test_architecture_without_units_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden must be from 1 to 10,000, not 0"):
        LSTMShape(2, 0, 1)


def test_self_check_does_not_depend_on_where_new_tensors_are() -> None:
    with torch.device("meta"):
        assert dispatch.self_check(LSTMShape(2, 5, 2), torch.device("cpu")) < 1e-5
