"""Learning rates of hand-designed optimizers, by the best final loss (section 3).

The final loss is the mean over the last tenth of the updates
(`suite.inner.evaluate.final_steps`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers
from l2l.suite.core.types import Problem
from l2l.suite.files.pieces import Keep, anew
from l2l.suite.files.progress import Progress, silent
from l2l.suite.inner.evaluate import final_steps
from l2l.suite.inner.loop import descend
from l2l.suite.inner.memory import runs_at_once
from l2l.suite.inner.objective import Objective

# Exponents of 10, in quarters: half decades from 1e−4 to 10, then quarters around the best. A grid
# of this ratio meets the figure's SGD and NAG within a few percent (docs/calibration.md); a finer
# one goes closer to the edge of divergence than the paper did.
FIRST = range(-16, 5, 2)
LOWEST, HIGHEST = -32, 20
# What it is called, and what to look for, where no rate is better than the last one of widening.
EDGES = {
    LOWEST: ("lowest", "is the sign of its update right?"),
    HIGHEST: ("highest", "does its update grow with it?"),
}
# Smaller budgets, the same for all optimizers, of which a finished sweep tells: four whole decades
# from 10⁻³ to 1, and the first round.
BUDGETS = {4: range(-12, 1, 4), len(FIRST): FIRST}


@dataclass(frozen=True)
class TuningResult:
    """The best rate, and a row for each one tried (learning_rate, mean_final, diverged, round).

    `mean_final` is the mean final loss over instances, infinite where any run diverged.
    """

    best: float
    table: pd.DataFrame

    @property
    def told(self) -> str:
        """A clause if no rate is better than one at an end of the widest grid; else empty."""
        # Rates near the lowest, which do not move θ at all, are as good as it is.
        as_good = self.table["mean_final"] == self.table["mean_final"].min()
        return told_of_edge(self.table["learning_rate"][as_good].tolist())


@torch.no_grad()
def tune(
    problem: Problem,
    spec: Mapping[str, Any],
    steps: int,
    instances: int,
    seed: int,
    device: str | torch.device = "cpu",
    progress: Progress = silent,
    keep: Keep = anew,
) -> TuningResult:
    """Sweep the optimizer's `tuned` hyperparameter on validation instances.

    The grid is logarithmic, widened while the best rate is at its edge, then refined around it.
    All rates see the same instances and minibatches. A rate at which any run diverges cannot win.
    How many rates it takes is not known before, so `progress` is told of those of the round. `keep`
    has the final losses at some rates, so that they are not computed again.

    Raises:
        SuiteError: every rate diverges.
    """
    base = optimizers.make({**spec, _tuned(spec): 1.0})
    end = final_steps(steps)
    group = max(1, runs_at_once(problem, base, torch.device(device)) // instances)

    def run(first: int, some: Sequence[float], of: int) -> Tensor:
        """Final losses [rates, instances] for some rates side by side."""
        column = torch.tensor(some, device=device).repeat_interleave(instances).unsqueeze(1)
        optimizer = base.at_rate(column)
        objective = Objective(
            problem, range(instances), "validation", seed, copies=len(some), device=device
        )
        summed = torch.zeros(len(column), device=device)
        for point in descend(objective, optimizer, steps):
            if point.step in end:
                summed = summed + point.loss
            done = first + len(some) * point.step // steps
            progress(done, of, f"rates from {some[0]:.2g}, step {point.step}")
        return (summed / len(end)).view(len(some), instances).cpu()

    def finals_at(rates: Sequence[float]) -> Iterator[Tensor]:
        """Final losses [instances] for each rate, as many side by side as memory allows."""
        for first in range(0, len(rates), group):
            some = rates[first : first + group]
            name = f"{some[0]:.4g}-{len(some)}"
            yield from keep(name, functools.partial(run, first, some, len(rates)))

    scores: dict[int, float] = {}
    rows: list[dict[str, float]] = []

    def sweep(exponents: Sequence[int]) -> None:
        fresh = [e for e in exponents if e not in scores and LOWEST <= e <= HIGHEST]
        number = rows[-1]["round"] + 1 if rows else 0
        finals = finals_at([10 ** (e / 4) for e in fresh])
        for exponent, final in zip(fresh, finals, strict=True):
            diverged = int((~final.isfinite()).sum())
            scores[exponent] = float("inf") if diverged else final.mean().item()
            rows.append(
                {
                    "learning_rate": 10 ** (exponent / 4),
                    "mean_final": scores[exponent],
                    "diverged": diverged,
                    "round": number,
                }
            )

    sweep(FIRST)
    while True:
        # Of equals the lowest: where every rate diverges, lower ones are tried.
        best = min(scores, key=lambda e: (scores[e], e))
        if best not in (min(scores), max(scores)) or not LOWEST < best < HIGHEST:
            break
        sweep([best - 4, best - 2] if best == min(scores) else [best + 2, best + 4])
    if scores[best] == float("inf"):
        tried = [row["learning_rate"] for row in rows]
        raise SuiteError(
            f"tuning {spec['name']}: no learning rate from {min(tried):g} to {max(tried):g} ends "
            "with a finite loss for every instance, so check the problem's loss near θ_0"
        )
    sweep([best - 1, best + 1])
    best = min(scores, key=lambda e: scores[e])
    return TuningResult(10 ** (best / 4), pd.DataFrame(rows))


def told_of_edge(rates: float | Sequence[float]) -> str:
    """A clause on best rates of which one is at an end of the widest grid; empty if none is."""
    for exponent, (which, hint) in EDGES.items():
        edge = 10 ** (exponent / 4)
        if np.isclose(rates, edge, rtol=1e-3, atol=0).any():
            return f"its best learning rate, {edge:.0e}, is the {which} that is tried: {hint}"
    return ""


def _tuned(spec: Mapping[str, Any]) -> str:
    field = optimizers.cls(str(spec["name"])).tuned
    if field is None:
        raise SuiteError(f"optimizer {spec['name']!r} has no hyperparameter that is tuned")
    return field


def with_rate(table: pd.DataFrame, rate: float | None) -> float:
    """How much higher the validation loss is with one rate, as a factor, instead of the best.

    Args:
        table: of a finished sweep, as `TuningResult` has it.
        rate: of those that were tried, the nearest within a quarter of a decade stands for it.

    Returns:
        Infinite where a run diverges; NaN without such a rate, or where losses are not above 0.
    """
    if rate is None or rate <= 0:
        return math.nan
    distance = (4 * np.log10(table["learning_rate"] / rate)).abs()
    nearest = distance == distance.min()
    return _times_the_best(table, nearest) if distance.min() <= 1 else math.nan


def with_fewer_rates(table: pd.DataFrame) -> dict[int, float]:
    """How much higher the best validation loss is with each of `BUDGETS`, as a factor.

    Args:
        table: of a finished sweep, as `TuningResult` has it.

    Returns:
        The lowest `mean_final` of the budget's rates over that of all; infinite where all of them
        diverge, NaN where losses are not above 0.
    """
    exponents = np.rint(4 * np.log10(table["learning_rate"]))
    return {
        number: _times_the_best(table, exponents.isin(list(rates)))
        for number, rates in BUDGETS.items()
    }


def _times_the_best(table: pd.DataFrame, some: pd.Series) -> float:
    """The lowest validation loss of some rates over that of all; NaN if that is not above 0."""
    best = float(table["mean_final"].min())
    return float(table["mean_final"][some].min()) / best if best > 0 else math.nan
