"""Which of a problem's methods the harness computes losses and gradients with."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from example_problems import Bowl
from torch import Tensor

from l2l.problems.quadratic import Quadratic
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Tensors
from l2l.suite.inner.objective import Objective


class Doubled(Quadratic):
    """Another loss alone; what it inherits is of the old one."""

    def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        return 2 * super().loss(params, instance, batch)


class DoubledAtOnce(Doubled):
    """Another loss for all instances at once, the inherited gradient being of the old one."""

    def losses(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        return 2 * super().losses(params, instance, batch)


@dataclass(frozen=True)
class DoubledByHand(DoubledAtOnce):
    """All of them; counts how often the gradient is asked for."""

    calls: tuple[int, ...] = ()

    def losses_and_grads(
        self, params: Tensors, instance: Tensors, batch: None
    ) -> tuple[Tensor, Tensors]:
        losses, grads = super().losses_and_grads(params, instance, batch)
        object.__setattr__(self, "calls", (*self.calls, len(grads)))
        return 2 * losses, {name: 2 * each for name, each in grads.items()}


def test_subclass_with_another_loss_is_not_given_the_inherited_ones_gradient() -> None:
    plain = Objective(Quadratic(dim=3), range(4), "train", 0, copies=2)
    theta = plain.start()
    losses, grads = plain.value_and_grad(theta, 1)
    by_hand = DoubledByHand(dim=3)
    for problem in (Doubled(dim=3), DoubledAtOnce(dim=3), by_hand):
        doubled = Objective(problem, range(4), "train", 0, copies=2)
        torch.testing.assert_close(doubled.value(theta, 1), 2 * losses)
        value, gradient = doubled.value_and_grad(theta, 1)
        torch.testing.assert_close(value, 2 * losses)
        torch.testing.assert_close(gradient, 2 * grads)
    assert len(by_hand.calls) == 1


def test_gradient_by_hand_is_autograds_where_it_is_differentiated_again() -> None:
    objective = Objective(Quadratic(dim=3), [0], "train", 0)
    theta = objective.start().requires_grad_()
    losses, grads = objective.value_and_grad(theta, 1)
    assert losses.requires_grad
    torch.testing.assert_close(grads, objective.value_and_grad(theta.detach(), 1)[1])
    (again,) = torch.autograd.grad(grads.square().sum(), theta)
    assert again.abs().sum() > 0


def test_instances_that_are_not_alike_are_told() -> None:
    class Growing(Quadratic):
        def instance(self, rng: Rng) -> Tensors:
            return {**super().instance(rng), "extra": rng.normal(1 + (rng.instance == 3))}

    Objective(Growing(), range(3), "train", 0)
    with pytest.raises(SuiteError, match=r"Growing gives .*\[1\] and .*\[2\] at \['extra'\] for"):
        Objective(Growing(), range(5), "train", 0)


class Numbered(Bowl):
    """Instances of a finite set, as photos are: the loss is the number of the photo."""

    def instance(self, rng: Rng) -> Tensors:
        return {"photo": torch.tensor(float(rng.instance))}

    def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        return instance["photo"] + 0 * params["theta"].sum()


def test_earlier_runs_are_on_other_instances_of_a_finite_set() -> None:
    runs = Objective(Numbered(), [3, 7], "test", 0)
    first, second = runs.earlier(0), runs.earlier(1)
    photos = [each.value(each.start(), 0).tolist() for each in (runs, first, second)]
    assert photos == [[3, 7], [4, 8], [5, 9]]
    # What they draw is what their stream has at their own number.
    same = Objective(Numbered(), [3, 7], "test/earlier-1", 0)
    assert torch.equal(second.start(), same.start())
