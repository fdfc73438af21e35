"""Sweeps of learning rates: the suite's, and a loop over runs of `torch.optim`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.timing import interleaved
from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Problem
from l2l.suite.inner.tune import tune

STEPS = 100
RATE = 0.01
# The suite's name of a baseline, and what PyTorch has in its place.
BASELINES: dict[str, Callable[[Iterable[Tensor]], torch.optim.Optimizer]] = {
    "sgd": lambda params: torch.optim.SGD(params, lr=RATE),
    "rmsprop": lambda params: torch.optim.RMSprop(params, lr=RATE),
    "adam": lambda params: torch.optim.Adam(params, lr=RATE),
    "nag": lambda params: torch.optim.SGD(params, lr=RATE, momentum=0.9, nesterov=True),
}


class PlainMLP(nn.Module):
    """Figure 4's network on one run's minibatches, as anybody writes it."""

    def __init__(self, problem: MLP, instance: int) -> None:
        super().__init__()
        pixels = problem.images.pixels[0].numel()
        self.layers = nn.Sequential(
            nn.Linear(pixels, problem.units), nn.Sigmoid(), nn.Linear(problem.units, 10)
        )
        self.problem, self.instance = problem, instance

    def forward(self, step: int) -> Tensor:
        batch = self.problem.batch(Rng(0, "validation/batch", self.instance, step))
        return nn.functional.cross_entropy(self.layers(batch["x"]), batch["y"])


class PlainQuadratic(nn.Module):
    """One random quadratic."""

    def __init__(self, problem: Quadratic, instance: int) -> None:
        super().__init__()
        fixed = problem.instance(Rng(0, "validation/instance", instance))
        self.matrix, self.target = fixed["W"], fixed["y"]
        self.theta = nn.Parameter(torch.zeros(problem.dim))

    def forward(self, step: int) -> Tensor:
        return (self.matrix @ self.theta - self.target).square().sum()


def one_run(
    model: nn.Module,
    make: Callable[[Iterable[Tensor]], torch.optim.Optimizer],
    steps: int = STEPS,
) -> None:
    """A run of some updates."""
    optimizer = make(model.parameters())
    for step in range(steps):
        optimizer.zero_grad()
        model(step).backward()
        optimizer.step()


def sweep(
    name: str,
    problem: Problem,
    plain: Callable[[Any, int], nn.Module],
    instances: int,
    runs: int,
    repeats: int,
) -> pd.DataFrame:
    """A row for each baseline, and their sum.

    Args:
        name: of the problem, for readers.
        problem: what is minimised.
        plain: makes its module, given the problem and the number of an instance.
        instances: runs for each rate.
        runs: how many of the loop's runs are measured; the others are taken to be as long.
        repeats: of everything.
    """
    rows = []
    for baseline, make in BASELINES.items():
        tried = len(tune(problem, {"name": baseline}, STEPS, 1, 0).table)

        def loop(make: Any = make) -> None:
            for instance in range(runs):
                one_run(plain(problem, instance), make)

        def suite(baseline: str = baseline) -> None:
            tune(problem, {"name": baseline}, STEPS, instances, 0)

        times = interleaved({"suite": suite, "loop": loop}, repeats)
        row = {"problem": name, "baseline": baseline, "rates": tried, "instances": instances}
        scaled = times["loop"] * tried * instances / runs
        rows.append({**row, "suite_s": times["suite"], "torch_optim_s": scaled})
    table = pd.DataFrame(rows)
    total = {"problem": name, "baseline": "all", "rates": table.rates.sum(), "instances": instances}
    total |= {column: table[column].sum() for column in ("suite_s", "torch_optim_s")}
    table = pd.concat([table, pd.DataFrame([total])], ignore_index=True)
    table["suite_is_faster_by"] = table.torch_optim_s / table.suite_s
    return table


def sweeps(repeats: int, steps_down: int = 1) -> pd.DataFrame:
    """MNIST with 10 instances for each rate, quadratics with 128; both over `steps_down`."""
    mnist = sweep("MNIST", MLP(), PlainMLP, max(1, 10 // steps_down), 2, repeats)
    quadratics = Quadratic()
    small = sweep("quadratics", quadratics, PlainQuadratic, max(1, 128 // steps_down), 8, repeats)
    return pd.concat([mnist, small], ignore_index=True)
