"""What moves φ: SOAP is ADAM in a basis of its own, and does not depend on ours."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from l2l.optimizers.kernels.shape import LSTMShape
from l2l.optimizers.layout import Layout
from l2l.suite.core.seeds import Rng
from l2l.suite.meta.meta_optimizers import MetaAdam, MetaOptimizer, MetaSoap


@dataclass(frozen=True)
class OneMatrix:
    """A φ that is one matrix."""

    rows: int
    columns: int

    def split(self, weights: Tensor) -> dict[str, Tensor]:
        return {"w": weights.view(self.rows, self.columns)}

    def join(self, parts: dict[str, Tensor]) -> Tensor:
        return parts["w"].reshape(-1)


@dataclass(frozen=True)
class OneLayer(OneMatrix):
    """A φ that is one layer; the last column of its matrix is its biases."""

    def parameters(self) -> dict[str, torch.Size]:
        sizes = {"w.weight": (self.rows, self.columns - 1), "w.bias": (self.rows,)}
        return {name: torch.Size(size) for name, size in sizes.items()}

    def split(self, weights: Tensor) -> dict[str, Tensor]:
        whole = weights.view(self.rows, self.columns)
        return {"w.weight": whole[:, :-1], "w.bias": whole[:, -1]}

    def join(self, parts: dict[str, Tensor]) -> Tensor:
        return torch.column_stack([parts["w.weight"], parts["w.bias"].reshape(-1)]).flatten()


def updates(optimizer: MetaOptimizer, gradients: list[Tensor], rate: float = 0.1) -> list[Tensor]:
    state = optimizer.init(torch.zeros_like(gradients[0]))
    result = []
    for gradient in gradients:
        update, state = optimizer.update(gradient, state, rate)
        result.append(update)
    return result


def random_gradients(size: int, count: int = 23) -> list[Tensor]:
    scale = torch.logspace(0, -2, size, dtype=torch.float64)
    return [Rng(3, "gradients", i).normal(size).double() * scale for i in range(count)]


def test_soap_of_single_numbers_is_adam() -> None:
    gradients = random_gradients(1)
    soap = updates(MetaSoap(OneMatrix(1, 1), beta2=0.9), gradients)
    adam = updates(MetaAdam(beta2=0.9), gradients)
    assert torch.allclose(torch.stack(soap), torch.stack(adam), rtol=1e-5)


@pytest.mark.parametrize("size", [1e-19, 1e-22, 1e-30])
def test_soap_takes_no_long_step_along_gradients_whose_squares_underflow(size: float) -> None:
    (update,) = updates(MetaSoap(OneMatrix(4, 5)), [torch.full((20,), size)])
    assert update.abs().max() <= 0.1


def test_soap_of_a_rotated_matrix_is_the_rotated_soap() -> None:
    gradients = random_gradients(20)
    left, right = (torch.linalg.qr(Rng(4, "rotation", n).normal(n, n).double())[0] for n in (4, 5))
    rotated = [(left @ g.view(4, 5) @ right).flatten() for g in gradients]
    soap = MetaSoap(OneMatrix(4, 5))
    for ours, theirs in zip(updates(soap, gradients), updates(soap, rotated), strict=True):
        assert torch.allclose((left @ ours.view(4, 5) @ right).flatten(), theirs, atol=1e-6)
    adam = [updates(MetaAdam(), some)[-1] for some in (gradients, rotated)]
    assert not torch.allclose((left @ adam[0].view(4, 5) @ right).flatten(), adam[1], atol=1e-3)


@pytest.mark.parametrize("rows", [1, 4])
def test_joined_biases_are_one_more_column_of_their_layers_weights(rows: int) -> None:
    gradients = random_gradients(5 * rows)
    joined = updates(MetaSoap(OneLayer(rows, 5), joined=True), gradients)
    matrix = updates(MetaSoap(OneMatrix(rows, 5)), gradients)
    apart = updates(MetaSoap(OneLayer(rows, 5)), gradients)
    assert torch.equal(torch.stack(joined), torch.stack(matrix))
    assert not torch.allclose(torch.stack(apart), torch.stack(matrix), atol=1e-3)


@dataclass(frozen=True)
class Unlike(Layout):
    """A plugin's φ, whose weights and biases do not make up layers."""

    def parameters(self) -> dict[str, torch.Size]:
        sizes = {
            "a.bias": (2,),
            "b.weight": (2, 3, 2),
            "b.bias": (2,),
            "c.weight": (2, 3),
            "bias": (),
        }
        return {name: torch.Size(size) for name, size in sizes.items()}


def test_biases_without_a_matrix_that_fits_stay_apart() -> None:
    gradients = random_gradients(Unlike().size)
    joined = updates(MetaSoap(Unlike(), joined=True), gradients)
    apart = updates(MetaSoap(Unlike()), gradients)
    assert torch.equal(torch.stack(joined), torch.stack(apart))


def test_soap_goes_down_a_narrow_valley_faster_than_adam() -> None:
    """On ‖A W B‖² with A and B of condition 30, rotated, at each method's best rate."""
    a, b = (_ill_conditioned(8, instance) for instance in (0, 1))
    start = Rng(5, "start").normal(8, 8).double()

    def final(optimizer: MetaOptimizer, rate: float) -> float:
        w, state = start.flatten(), optimizer.init(start.flatten())
        for step in range(300):
            gradient = (a.T @ (a @ w.view(8, 8) @ b) @ b.T).flatten()
            update, state = optimizer.update(gradient, state, rate * (1 - step / 300))
            w = w + update
        return (a @ w.view(8, 8) @ b).square().sum().item()

    rates = (0.003, 0.01, 0.03, 0.1)
    soap = min(final(MetaSoap(OneMatrix(8, 8)), rate) for rate in rates)
    adam = min(final(MetaAdam(beta2=0.99), rate) for rate in rates)
    assert soap < 0.5 * adam


def _ill_conditioned(size: int, instance: int) -> Tensor:
    left, right = (
        torch.linalg.qr(Rng(6, f"valley/{side}", instance).normal(size, size).double())[0]
        for side in ("left", "right")
    )
    return left @ torch.logspace(0, -1.5, size, dtype=torch.float64).diag() @ right


@pytest.mark.parametrize("size", [2.0**-100, 2.0**100])
def test_steps_of_soap_do_not_depend_on_the_gradients_scale(size: float) -> None:
    shape = LSTMShape(1, 3, 2)
    gradients = random_gradients(shape.size, 5)
    plain = updates(MetaSoap(shape), gradients)
    scaled = updates(MetaSoap(shape), [g * size for g in gradients])
    assert torch.allclose(torch.stack(scaled), torch.stack(plain))


def test_directions_without_gradients_are_left_alone_in_float32() -> None:
    """All gradients lie in one direction, so all that SOAP sees across it is rounding."""
    direction = torch.outer(Rng(7, "left").normal(5), Rng(7, "right").normal(6)).flatten()
    direction /= direction.norm()
    gradients = [Rng(7, "size", i).normal(1) * direction for i in range(40)]
    for update in updates(MetaSoap(OneMatrix(5, 6)), gradients):
        across = update - (update @ direction) * direction
        assert across.norm() < 0.1 * update.norm() + 1e-3
    zeros = updates(MetaSoap(OneMatrix(5, 6)), [torch.zeros(30)] * 3)
    assert not torch.stack(zeros).any()
