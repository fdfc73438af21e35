"""Optional abilities are had by classes that declare them, unless they replace what these do."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from l2l.optimizers.hand_designed.sgd import SGD
from l2l.optimizers.learned.gac import LSTMGAC
from l2l.optimizers.learned.lstm import LSTM
from l2l.optimizers.learned.routed import Routed
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.abilities import has
from l2l.suite.core.types import Problem


class Squares(Problem):
    """Has all that may be had of a loss."""

    def loss(self, *_: Any) -> Any: ...
    def losses(self, *_: Any) -> Any: ...
    def losses_and_grads(self, *_: Any) -> Any: ...


class OtherLoss(Squares):
    def loss(self, *_: Any) -> Any: ...


class OtherLosses(Squares):
    def loss(self, *_: Any) -> Any: ...
    def losses(self, *_: Any) -> Any: ...


class OtherField(Squares):
    """Replaces nothing."""


@pytest.mark.parametrize(
    ("thing", "losses", "gradients"),
    [
        (Problem(), False, False),
        (Squares(), True, True),
        (OtherLoss(), False, False),
        (OtherLosses(), True, False),
        (OtherField(), True, True),
        (Quadratic(), True, True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_loss_of_ones_own_is_not_given_the_losses_inherited(
    thing: Problem, losses: bool, gradients: bool
) -> None:
    assert has(thing, "losses") == losses
    assert has(thing, "losses_and_grads") == gradients


class OwnUpdate(LSTM):
    def update(self, *_: Any) -> Any: ...


class OwnBoth(LSTM):
    def update(self, *_: Any) -> Any: ...
    def update_in_place(self, *_: Any) -> Any: ...


class ReadsParams(LSTM):
    ignores_params: ClassVar[bool] = False


def test_an_update_of_ones_own_is_not_given_what_speaks_for_the_parents() -> None:
    abilities = ("update_in_place", "ignores_params", "fused")
    assert [has(LSTM(), each) for each in abilities] == [True, True, True]
    assert [has(OwnUpdate(), each) for each in abilities] == [False, False, False]
    assert [has(OwnBoth(), each) for each in abilities] == [True, False, False]
    assert not has(ReadsParams(), "ignores_params")
    assert [has(LSTMGAC(), each) for each in abilities] == [False, True, False]
    assert has(Routed(), "ignores_params")
    assert [has(each, "odd_part") for each in (LSTM(), LSTMGAC(), OwnUpdate())] == [
        True,
        False,
        False,
    ]
    assert not has(SGD(lr=0.1), "update_in_place")
