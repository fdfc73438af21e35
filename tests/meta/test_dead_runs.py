"""Runs whose gradient is NaN: they add nothing to the windows after it either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from example_problems import Overhang
from torch import Tensor

from l2l.optimizers.hand_designed.lion import Lion
from l2l.optimizers.hand_designed.sgd import SGD
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.inner.objective import Objective
from l2l.suite.meta.estimators.second_order import SecondOrder
from l2l.suite.meta.estimators.truncated import Truncated
from l2l.suite.meta.imitation import Imitating

INSTANCES = range(6)
# Updates as large as makes some of these runs fall off, and not all.
SPECS: list[dict[str, Any]] = [
    {"name": "lstm", "preprocessing": "none", "output_scale": 1.0},
    {"name": "rnnprop", "step": 5.0},
    {"name": "celo2-base"},
]


def third_window(estimator: Any, spec: dict[str, Any], instances: Sequence[int]) -> Any:
    """The gradient of a window, and which runs were alive before and after it."""
    optimizer: Any = optimizers.make(spec)
    optimizer = optimizer.with_weights(optimizer.initial_weights(Rng(1, "phi")))
    objective = Objective(Overhang(), instances, "train", 1)
    with torch.no_grad():
        place, _ = estimator.begin(optimizer, objective)
        for _ in range(3):
            before: Tensor = place.alive
            given = (optimizer, objective, place, 3, "loss", Rng(0, "unused"))
            found = estimator.gradient(*given)
            place = found.place
    return found.gradient, before, place.alive


@pytest.mark.parametrize(
    "estimator",
    [Truncated(), SecondOrder(), Imitating(teacher=SGD(0.01))],
    ids=["truncated", "second_order", "imitating"],
)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["name"])
def test_run_that_died_in_an_earlier_window_adds_nothing(
    estimator: Any, spec: dict[str, Any]
) -> None:
    gradient, before, after = third_window(estimator, spec, INSTANCES)
    assert 0 < after.sum() <= before.sum() < len(before)
    assert gradient.isfinite().all()
    alone, _, _ = third_window(estimator, spec, after.nonzero().flatten().tolist())
    expected = alone * int(after.sum()) / len(after)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def test_teacher_that_survives_a_nan_gradient_costs_its_own_run_only() -> None:
    """Lion moves by signs, and that of NaN is 0."""
    gradient, _, alive = third_window(Imitating(teacher=Lion(0.1)), SPECS[0], INSTANCES)
    assert alive.all()
    assert gradient.isfinite().all()
    assert gradient.norm() > 0
