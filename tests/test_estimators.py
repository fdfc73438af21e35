"""The study of estimators measures what it says, where the truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from example_problems import InDouble
from torch import Tensor

from benchmarks.estimators import EXACT, SMALL, drawn, measured, over_a_run, slope, study
from benchmarks.judging import Found, by_inverse_variance, judged, mixed
from l2l.optimizers.learned.lstm import LSTM
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Params
from l2l.suite.inner.objective import Objective

HORIZON = 8
PROBLEM = InDouble(Quadratic(dim=3))
INSTANCES = (0, 1)


def tiny() -> LSTM:
    """In float64, at an output scale at which windows of 2 are far from the whole run."""
    optimizer = LSTM(layers=1, hidden=2, preprocessing="none", output_scale=0.3)
    return optimizer.with_weights(optimizer.initial_weights(Rng(3, "phi")).double())


def estimates(spec: dict[str, Any], draws: int = 1) -> Tensor:
    given = (spec, tiny(), PROBLEM, INSTANCES, HORIZON)
    return torch.stack([over_a_run(*given, draw) for draw in range(draws)])


def by_autograd() -> Tensor:
    """The gradient of the mean loss, through one graph of whole runs."""
    objective = Objective(PROBLEM, INSTANCES, "train", 0)
    phi = tiny().phi.clone().requires_grad_()
    optimizer, theta = tiny().with_weights(phi), objective.start()
    state, total = optimizer.init(objective.spec, len(INSTANCES)), torch.zeros(())
    for step in range(HORIZON):
        if step == 0:
            theta = theta.requires_grad_()
        _, grads = objective.value_and_grad(theta, step)
        update, state = optimizer.update(grads, state, Params(theta, objective.spec))
        theta = theta + update
        total = total + objective.value(theta, step + 1).mean() / HORIZON
    return torch.autograd.grad(total, phi)[0]


def test_truth_is_that_of_autograd_through_the_unroll_in_float64() -> None:
    torch.testing.assert_close(estimates(EXACT)[0], by_autograd(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spec", [{"name": "nres"}, {"name": "pes", "window": 2}])
def test_unbiased_estimators_agree_with_the_truth_within_their_error(spec: dict[str, Any]) -> None:
    drawn = estimates({**spec, "sigma": 0.001, "pairs": 32}, 16)
    found = judged(drawn, by_autograd())
    assert abs(found["gain"] - 1) < 3 * found["gain_error"] < 0.5
    assert found["bias"] < found["bias_most"] < 0.3 < found["std"]


def test_bias_of_windows_is_found() -> None:
    for name in ("truncated", "second_order"):
        found = judged(estimates({"name": name, "window": 2}), by_autograd())
        assert found["bias"] == found["bias_most"] > 0.3
        assert found["std"] == 0


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_variance_adds_nothing_to_the_bias_that_is_found(bias: float) -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(1000, generator=generator, dtype=torch.float64)
    scale = truth.norm() / 1000**0.5
    added = bias * scale * torch.randn(1000, generator=generator, dtype=torch.float64)
    noise = 2 * scale * torch.randn(40, 1000, generator=generator, dtype=torch.float64)
    found = judged(truth + added + noise, truth)
    # The mean of 40 draws is off by 2/√40 = .32 by chance alone.
    assert found["std"] == pytest.approx(2, rel=0.03)
    assert found["bias"] == pytest.approx(bias, abs=0.12)
    assert bias < found["bias_most"] < bias + 0.2


def test_slope_is_the_norm_of_the_gradient_along_it() -> None:
    truth, given = by_autograd(), (tiny(), PROBLEM, INSTANCES, HORIZON, 0.001)
    assert slope(truth, *given)["slope"] == pytest.approx(truth.norm().item(), rel=1e-3)
    assert slope(-truth, *given)["slope"] == pytest.approx(-truth.norm().item(), rel=1e-3)


def one(bias: float, noise: float, cost: float = 1.0) -> dict[str, float]:
    return {"bias": bias, "std": noise, "instance_std": 0.0, "cost": cost}


def test_best_mixture_is_the_best_of_all_weights_and_shares_of_the_budget() -> None:
    ours, theirs = one(0.8, 0.3), one(0.1, 0.6, 2.0)
    weight, share = np.meshgrid(np.linspace(0, 1, 1001), np.linspace(0.001, 0.999, 999))
    for budget in (0.1, 1, 100):
        noise = (1 - weight) ** 2 * 0.3**2 / share + weight**2 * 0.6**2 * 2 / (1 - share)
        error = ((1 - weight) * 0.8) ** 2 + (weight * 0.1) ** 2 + noise / budget
        found = mixed(ours, theirs, budget)
        assert found["rmse_mixed"] == pytest.approx(error.min() ** 0.5, rel=1e-3)
        assert found["rmse_mixed"] <= found["rmse_backward"] * (1 + 1e-6)
        assert found["rmse_mixed"] <= found["rmse_evolution"]


def test_mixing_two_unbiased_estimators_is_no_better_than_the_better_one() -> None:
    found = mixed(one(0.0, 0.3), one(0.0, 5.0), 10)
    assert found["weight"] == 0
    assert found["rmse_mixed"] == pytest.approx(found["rmse_backward"])


def test_inverse_variances_find_which_weight_each_estimator_is_good_at() -> None:
    generator = torch.Generator().manual_seed(1)
    noises = torch.tensor([[1.0] * 500 + [10.0] * 500, [10.0] * 500 + [1.0] * 500])
    draws = noises.unsqueeze(1) * torch.randn(2, 40, 1000, generator=generator)
    one, other = (Found({"cost": 1.0}, each) for each in draws)
    found = by_inverse_variance(one, other, 1)
    # Half of the budget doubles the variances: 2 / (1/1 + 1/100) for each weight.
    assert found == pytest.approx((1000 * 2 / 1.01) ** 0.5, rel=0.05)


def test_study_of_a_small_case() -> None:
    sizes: dict[str, Any] = {"horizons": (6,), "main": 6, "evolution": (6,), "sigmas": (0.01,)}
    case = replace(SMALL, instances=4, draws=2, **sizes)
    found = list(measured(case, 6))
    assert found[0].row["bias"] == 0
    assert found[0].row["gain"] == pytest.approx(1)
    assert found[0].row["instance_std"] > 0
    told = {(one.row["estimator"], one.row["window"]) for one in found}
    assert told >= {("truncated", 5), ("truncated", 6), ("pes", 5), ("nres", 6), ("smoothed", 6)}
    table, mixtures = study({"small": case})
    assert (table.seconds > 0).all()
    assert (mixtures.rmse_mixed <= mixtures.rmse_backward * (1 + 1e-9)).all()
    assert len(drawn(table, {"small": case}).axes) == 3
