"""The learned optimizer's options: preprocessing, scales, the start of φ, the odd network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from moved import moved
from torch import Tensor

from l2l.optimizers.kernels.shape import LSTMShape
from l2l.optimizers.learned.lstm import LSTM
from l2l.optimizers.learned.scaled_lstm import ScaledLSTM
from l2l.optimizers.preprocessing import PREPROCESSINGS
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.abilities import has
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import ParamSpec
from l2l.suite.meta.metatrain import metatrain
from l2l.suite.meta.schedule import Phase, Schedule
from l2l.suite.meta.state import load_state

SPEC = ParamSpec({"theta": torch.Size([6])})
KINDS = list(PREPROCESSINGS)


def make(**options: Any) -> LSTM:
    optimizer = LSTM(**{"hidden": 4, **options})
    return optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))


def updates(optimizer: LSTM, grads: Tensor) -> Tensor:
    """[T, n, P] for given gradients."""
    state, made = optimizer.init(SPEC, grads.shape[1]), []
    for grad in grads:
        update, state = moved(optimizer, grad, state)
        made.append(update)
    return torch.stack(made)


# --- preprocessing (Appendix A) ---------------------------------------------------------------


@pytest.mark.parametrize("p", [1.0, 5.0, 10.0])
def test_log_preprocessing_is_appendix_as_formula(p: float) -> None:
    edge = math.exp(-p)
    values = [0.0, 1e-30, -1e-7, 0.5 * edge, -0.99 * edge, 1.01 * edge, -2 * edge, 1.0, -3.0, 1e30]
    magnitude, direction = LSTM(p=p).features(torch.tensor([values]))
    for value, first, second in zip(values, magnitude.tolist(), direction.tolist(), strict=True):
        if abs(value) >= edge:
            expected = (math.log(abs(value)) / p, math.copysign(1, value))
        else:
            expected = (-1.0, math.exp(p) * value)
        assert (first, second) == pytest.approx(expected, rel=1e-5)


def test_log_preprocessing_is_continuous_where_its_parts_meet() -> None:
    edge = math.exp(-10.0)
    features = LSTM().features(torch.tensor([[0.9999 * edge, 1.0001 * edge]]))
    assert torch.allclose(features[:, 0], features[:, 1], atol=1e-3)


def test_infinite_gradients_have_finite_features() -> None:
    features = LSTM().features(torch.tensor([[torch.inf, -torch.inf]]))
    assert features.isfinite().all()
    assert features[1].tolist() == [1.0, -1.0]


def test_other_preprocessings_are_a_constant() -> None:
    grads = torch.tensor([[1.0, -2.0, 0.0]])
    assert torch.allclose(LSTM(preprocessing="scale", p=2.0).features(grads), math.exp(2.0) * grads)
    assert torch.equal(LSTM(preprocessing="none").features(grads), grads)


@pytest.mark.parametrize("kind", KINDS)
def test_features_lie_as_the_network_reads_them(kind: str) -> None:
    """[..., n, P] to [..., inputs, n·P], coordinates in order."""
    grads = Rng(0, "grads").normal(3, 2, 5)
    features = LSTM(preprocessing=kind).features(grads)
    inputs = len(PREPROCESSINGS[kind][1])
    assert features.shape == (3, inputs, 10)
    one = LSTM(preprocessing=kind).features(grads[1, 1:, 2:3])
    assert torch.equal(features[1, :, 7], one[:, 0])


# --- scales and the start of φ ----------------------------------------------------------------


def test_update_is_the_networks_output_times_the_output_scale() -> None:
    grads = Rng(1, "grads").normal(4, 2, 6)
    plain, scaled = make(output_scale=1.0), make(output_scale=0.01)
    assert torch.allclose(updates(scaled, grads), 0.01 * updates(plain, grads), rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_scaled_lstm_does_what_an_lstm_does_on_scaled_gradients(
    kind: str, dtype: torch.dtype
) -> None:
    """Updates, meta-gradients and the gradient that a gradient itself gets, by factors of 2."""
    scaled = ScaledLSTM(hidden=4, preprocessing=kind, p=3.0, input_scale=64.0)
    phi = scaled.initial_weights(Rng(0, "phi")).to(dtype)
    scaled, plain = scaled.with_weights(phi), LSTM(hidden=4, preprocessing=kind, p=3.0, weights=phi)
    grads = (10.0 ** (-4 * Rng(1, "sizes").uniform(5, 2, 6)) * Rng(1, "g").normal(5, 2, 6)).to(
        dtype
    )
    grads, weights = grads / 64, Rng(2, "weights").uniform(4, 2).to(dtype)
    close = {"rtol": 1e-5, "atol": 1e-7}
    torch.testing.assert_close(updates(scaled, grads), updates(plain, 64 * grads), **close)
    state = scaled.init(SPEC, 2).to(dtype)
    of_windows = (
        scaled.window_gradient(grads, state, 64 * grads),
        plain.window_gradient(64 * grads, state, 64 * grads),
    )
    torch.testing.assert_close(*of_windows, **close)
    # λ are sums of later gradients, which here are 1/64 of the others.
    of_losses = (
        64 * scaled.loss_gradient([*grads], state, weights, 1.0),
        plain.loss_gradient([*(64 * grads)], state, weights, 1.0),
    )
    torch.testing.assert_close(*of_losses, **close)
    one = scaled.adjoints(grads[0], state, grads[1], [])
    other = plain.adjoints(64 * grads[0], state, grads[1], [])
    torch.testing.assert_close(one.grads, 64 * other.grads, **close)


def test_scaled_lstm_has_the_abilities_of_an_lstm() -> None:
    names = {name for each in LSTM.__mro__ for name in vars(each).get("OPTIONAL", ())}
    abilities = {name: has(LSTM(), name) for name in names}
    assert abilities["fused"]
    assert {name: has(ScaledLSTM(), name) for name in names} == abilities


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_scale_of_the_inputs_must_be_a_finite_number_above_0(scale: float) -> None:
    with pytest.raises(ValueError, match="input_scale must be above 0 and finite"):
        ScaledLSTM(input_scale=scale)


def test_first_phi_has_forget_biases_of_1_and_no_others() -> None:
    optimizer = make()
    parts = optimizer.layout.split(optimizer.weights)
    for layer in range(2):
        gates = parts[f"layers.{layer}.bias"].view(4, 4)
        assert gates.tolist() == [[0.0] * 4, [1.0] * 4, [0.0] * 4, [0.0] * 4]
        weight = parts[f"layers.{layer}.weight"]
        bound = 1 / math.sqrt(weight.shape[1])
        assert 0.8 * bound < weight.abs().max() <= bound
    assert parts["output.bias"].item() == 0


def test_output_init_scales_the_first_output_weights_and_nothing_else() -> None:
    usual, small = make(), make(output_init=0.1)
    one, other = (each.layout.split(each.weights) for each in (usual, small))
    for name, part in one.items():
        factor = 0.1 if name == "output.weight" else 1.0
        assert torch.allclose(other[name], factor * part)


def test_first_updates_are_small_where_output_init_is() -> None:
    grads = Rng(2, "grads").normal(3, 2, 6)
    assert torch.equal(updates(make(output_init=0.0), grads), torch.zeros(3, 2, 6))
    assert torch.allclose(
        updates(make(output_init=0.1), grads), 0.1 * updates(make(), grads), rtol=1e-4, atol=1e-8
    )


def test_optimizer_without_weights_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="meta-train it, or load a checkpoint"):
        LSTM().init(SPEC, 1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"preprocessing": "sqrt"}, "preprocessing must be one of log, scale, none, not 'sqrt'"),
        ({"p": -5.0}, "p must be above 0 and at most 85, not -5"),
        ({"p": 90.0}, "p must be above 0 and at most 85, not 90"),
        ({"hidden": 0}, "hidden must be from 1 to 10,000, not 0"),
        ({"layers": -1}, "layers must be from 1 to 10,000, not -1"),
        ({"layers": 10**12}, "layers must be from 1 to 10,000"),
        ({"weights": [1.0]}, "weights"),
        ({"hiden": 5}, "hidden"),
    ],
)
def test_wrong_options_are_refused_before_any_work(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SuiteError, match=told):
        optimizers.make({"name": "lstm", **options})


# --- the odd network --------------------------------------------------------------------------


def random_odd(kind: str, **options: Any) -> LSTM:
    """With a φ that is far from its start: its biases are not 0, its units saturate."""
    optimizer = LSTM(hidden=6, preprocessing=kind, p=2.0, **options)
    return optimizer.with_weights(
        optimizer.odd_part(1.5 * Rng(4, "phi").normal(optimizer.layout.size))
    )


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_odd_network_turns_with_the_gradient(kind: str, layers: int) -> None:
    """m(−∇) = −m(∇) along a whole run, to the rounding of float64."""
    optimizer = random_odd(kind, layers=layers)
    optimizer = optimizer.with_weights(optimizer.weights.double())
    grads = 2 * Rng(5, "grads").normal(12, 2, 6).double()
    made, mirrored = updates(optimizer, grads), updates(optimizer, -grads)
    assert made.abs().mean() > 1e-3
    assert torch.allclose(mirrored, -made, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_odd_network_turns_with_the_gradient_in_the_kernel_too(kind: str) -> None:
    optimizer = random_odd(kind)
    grads = Rng(5, "grads").normal(6, 2, 6)
    made, mirrored = updates(optimizer, grads), updates(optimizer, -grads)
    assert torch.allclose(mirrored, -made, atol=1e-5 * made.abs().max().item())


@pytest.mark.parametrize("kind", KINDS)
def test_odd_network_does_not_move_without_a_gradient(kind: str) -> None:
    made = updates(random_odd(kind), torch.zeros(5, 1, 6))
    assert made.abs().max() < 1e-6


def test_usual_network_is_not_odd() -> None:
    """So the tests above can fail."""
    optimizer = LSTM(hidden=6, preprocessing="none")
    optimizer = optimizer.with_weights(Rng(4, "phi").normal(optimizer.layout.size))
    grads = Rng(5, "grads").normal(3, 2, 6)
    made = updates(optimizer, grads)
    assert (updates(optimizer, -grads) + made).abs().max() > 0.1 * made.abs().max()


@pytest.mark.parametrize("signs", [(1, -1), (-1,), (1, 1)])
def test_mirror_is_its_own_inverse(signs: tuple[int, ...]) -> None:
    shape = LSTMShape(2, 6, len(signs))
    indices, factors = shape.mirror(signs)
    phi = Rng(0, "phi").normal(shape.size)
    assert torch.equal(indices.sort().values, torch.arange(shape.size))
    turned = factors * phi[indices]
    assert not torch.equal(turned, phi)
    assert torch.equal(factors * turned[indices], phi)


def is_odd(optimizer: LSTM, phi: Tensor) -> bool:
    indices, signs = optimizer.layout.mirror(PREPROCESSINGS[optimizer.preprocessing][1])
    return torch.equal(phi, signs * phi[indices])


@pytest.mark.parametrize("kind", KINDS)
def test_odd_part_is_an_orthogonal_projection(kind: str) -> None:
    optimizer = LSTM(hidden=6, preprocessing=kind)
    vector = Rng(6, "vector").normal(optimizer.layout.size)
    projected = optimizer.odd_part(vector)
    assert is_odd(optimizer, projected)
    assert torch.equal(projected, optimizer.odd_part(projected)), "projecting twice is once"
    assert projected @ projected == pytest.approx((projected @ vector).item(), rel=1e-4)
    assert 0 < projected.norm() < vector.norm()


def test_an_odd_number_of_units_has_no_odd_part() -> None:
    optimizer = LSTM(hidden=7)
    with pytest.raises(ValueError, match="hidden must be even for a mirror symmetry, not 7"):
        optimizer.odd_part(torch.zeros(optimizer.layout.size))


@pytest.mark.parametrize("method", ["adam", "soap", "soap-joined"])
def test_an_odd_phase_stays_among_odd_networks_bit_for_bit_and_a_free_one_leaves_them(
    tmp_path: Path, method: Any
) -> None:
    spec = {"name": "lstm", "hidden": 4}
    estimator = {"name": "truncated", "window": 5}
    odd = Phase(40, 10, estimator, rate=0.02, clip=True, batch=2, method=method, odd=True)
    free = Phase(10, 10, {**estimator, "sample": 2}, rate=0.02)
    weights = []
    for phases in ((odd,), (odd, free)):
        training = Schedule(phases, validation_instances=4)
        folder = tmp_path / str(len(phases))
        folder.mkdir()
        metatrain(Quadratic(dim=3), spec, training, 1, folder)
        state = load_state(folder)
        assert state is not None
        weights.append(state.weights)
    optimizer: LSTM = optimizers.make(spec)
    start = optimizer.odd_part(optimizer.initial_weights(Rng(1, "phi")))
    assert (weights[0] - start).abs().max() > 0.02
    assert is_odd(optimizer, weights[0])
    assert not is_odd(optimizer, weights[1])
