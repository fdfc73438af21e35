"""What estimates of a gradient are worth against the exact one, alone and mixed, at equal cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

BUDGETS = (1, 100, 10_000)  # times the exact gradient's cost
LEAST = 1e-300  # nothing is divided by less
DRAWS = 8  # so many tell variances twice


@dataclass(frozen=True)
class Found:
    """What was found of an estimator, relative to the norm of the truth.

    Args:
        row: of the table.
        draws: [D, size].
    """

    row: dict[str, Any]
    draws: Tensor


def judged(draws: Tensor, exact: Tensor) -> dict[str, float]:
    """Bias and variance of estimates [D, size] on the same instances as the truth [size].

    The squared bias is the mean product of two different draws' errors, which their variance does
    not add to; `bias_most` is two jackknife standard errors above it. `gain` is the part of the
    truth that the mean has in its direction.
    """
    number, scale = len(draws), exact.norm()
    errors = (draws - exact) / scale
    along = draws @ exact / scale**2
    cosines = torch.cosine_similarity(draws, exact.expand_as(draws))
    found = {
        "draws": number,
        "gain": along.mean(),
        "mean_cosine": torch.cosine_similarity(draws.mean(0), exact, dim=0),
        "draw_cosine": cosines.mean(),
    }
    if number == 1:
        squared, error, spread, gain_error = errors.square().sum(), 0.0, 0.0, 0.0
    else:
        products = errors @ errors.T
        others = products.sum(1) - products.diagonal()
        squared = others.sum() / (number * (number - 1))
        without = (others.sum() - 2 * others) / max(1, (number - 1) * (number - 2))
        error = ((number - 1) * without.var(correction=0)).sqrt()
        spread, gain_error = errors.var(0).sum().sqrt(), along.std() / number**0.5
    found |= {"gain_error": gain_error, "std": spread}
    found |= {"bias": squared.clamp_min(0) ** 0.5}
    found |= {"bias_most": (squared.clamp_min(0) + 2 * error) ** 0.5}
    return {name: float(value) for name, value in found.items()}


def rmse(row: Any, budget: Any) -> Any:
    """The root of the mean squared error of what a budget buys, in exact gradients' costs."""
    noise = (row["std"] ** 2 + row["instance_std"] ** 2) * row["cost"] / budget
    return np.sqrt(row["bias"] ** 2 + noise)


def mixed(
    backward: Mapping[str, Any], evolution: Mapping[str, Any], budget: float
) -> dict[str, Any]:
    """What a mixture of a backward pass and evolution strategies is worth at equal cost.

    `weight` is that of the latter in the best mixture of weight and shares of the budget, for which
    the biases must be known: with a and e the noise of each for the whole budget, the least of
    (1 − w)²b² + w²b'² + ((1 − w) a + w e)².

    Args:
        backward: a row of the table.
        evolution: another.
        budget: in exact gradients.
    """
    bias, other = backward["bias"], evolution["bias"]
    a, e = (float(rmse(dict(each) | {"bias": 0.0}, budget)) for each in (backward, evolution))
    least = (bias**2 - a * (e - a)) / max(bias**2 + other**2 + (e - a) ** 2, LEAST)
    weight = min(1.0, max(0.0, least))
    biases = ((1 - weight) * bias) ** 2 + (weight * other) ** 2
    return {
        "rmse_backward": float(rmse(backward, budget)),
        "rmse_evolution": float(rmse(evolution, budget)),
        "weight": weight,
        "rmse_mixed": (biases + ((1 - weight) * a + weight * e) ** 2) ** 0.5,
    }


def by_inverse_variance(one: Found, other: Found, budget: float) -> float:
    """The error of two estimators without bias, each weight of φ weighed by inverse variances.

    Each takes half of the budget (Metz et al. 2019). The variances that weigh are those of half of
    the draws, the ones that tell the error those of the other half.
    """
    squared = 0.0
    for first in range(2):
        both = [2 * each.row["cost"] / budget for each in (one, other)]
        weighing, telling = (
            [
                each.draws[half::2].var(0) * cost
                for each, cost in zip((one, other), both, strict=True)
            ]
            for half in (first, 1 - first)
        )
        share = weighing[1] / (weighing[0] + weighing[1]).clamp_min(LEAST)
        squared += float((share**2 * telling[0] + (1 - share) ** 2 * telling[1]).sum()) / 2
    return float(squared**0.5)


def mixtures(found: Sequence[Found]) -> Iterator[dict[str, Any]]:
    """The exact gradient and the best of truncated ones, each with the best evolution strategy.

    Then, if there are enough draws, the exact gradient at φ ± ε with evolution strategies of the
    same σ, by inverse variances: on the same instances, and against what is the mean of both.
    """
    strategies = [one for one in found if one.row["estimator"] in ("nres", "pes")]
    truncated = [one for one in found if one.row["estimator"] == "truncated"]
    for budget in BUDGETS:

        def error(one: Found, budget: int = budget) -> float:
            return float(rmse(one.row, budget))

        for backward in (found[0], min(truncated, key=error)) if strategies else ():
            evolution = min(strategies, key=error)
            numbers = mixed(backward.row, evolution.row, budget)
            yield {**_key(backward, evolution), "budget": budget, **numbers}
    for smoothed in (one for one in found if one.row["estimator"] == "smoothed"):
        same = {"estimator": "nres", "sigma": smoothed.row["sigma"]}
        (other,) = (one for one in strategies if same.items() <= one.row.items())
        if len(smoothed.draws) >= DRAWS:
            noise = [float(each.row["std"] * each.row["cost"] ** 0.5) for each in (smoothed, other)]
            numbers = {"rmse_backward": noise[0], "rmse_evolution": noise[1]}
            numbers["rmse_mixed"] = by_inverse_variance(smoothed, other, 1)
            yield {**_key(smoothed, other), "budget": 1, **numbers}


def _key(backward: Found, evolution: Found) -> dict[str, Any]:
    key = {name: backward.row[name] for name in ("horizon", "estimator", "window")}
    return key | {"with": evolution.row["estimator"], "sigma": evolution.row["sigma"]}
