"""Bias and variance of the meta-gradient's estimators: python -m benchmarks.estimators [CASE …].

The truth is the exact gradient of the mean loss over whole runs: `second_order` with one window.
φ is fixed, so an estimator's windows are summed over the run. All of them see the same instances,
θ_0 and minibatches; what these add to the variance is told apart. All is relative to the truth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor

from benchmarks.judging import Found, judged, mixtures, rmse
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.checkpoint import load_optimizer
from l2l.suite.core.registry import estimators, problems
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Problem
from l2l.suite.files.atomic import write_bytes_atomic, write_text_atomic
from l2l.suite.inner.objective import Objective
from l2l.suite.meta.estimators.antithetic import Antithetic, walk_pairs
from l2l.suite.report.figures.files import Drawing, render

RESULTS = Path(__file__).parents[1] / "results"
CHECKPOINTS = RESULTS / "checkpoints"
FOLDER = RESULTS / "reference" / "benchmarks"
EXACT = {"name": "second_order"}
WINDOWS = (5, 20, 50)
SIGMA, SIGMAS = 0.01, (0.001, 0.01, 0.03, 0.1)
STEP = 0.1  # the length of a change in φ; meta-training's are from .02 to 1


@dataclass(frozen=True)
class Case:
    """A φ, and how much is measured at it.

    Args:
        checkpoint: of `results/checkpoints/`.
        problem: its specification.
        instances: n, in the batch that every estimate is made from.
        chunk: of how many of them the exact gradient is computed at a time.
        horizons: steps of a run.
        main: the horizon that is drawn; up to it, σ varies.
        window: of PES where σ varies.
        evolution: horizons at which there are evolution strategies.
        draws: of evolution strategies; `pairs` in each.
        smoothed: draws of the exact gradient at φ ± ε.
        sigmas: where σ varies.
        trained: otherwise φ is as meta-training begins.
    """

    checkpoint: str
    problem: Mapping[str, Any]
    instances: int
    chunk: int
    horizons: tuple[int, ...] = (20, 100, 200)
    main: int = 100
    window: int = 20
    evolution: tuple[int, ...] = (20, 100, 200)
    draws: int = 16
    pairs: int = 8
    smoothed: int = 6
    sigmas: tuple[float, ...] = SIGMAS
    trained: bool = True

    def optimizer(self) -> Learned:
        found = load_optimizer(CHECKPOINTS / f"{self.checkpoint}.safetensors")
        return found if self.trained else found.with_weights(found.initial_weights(Rng(0, "phi")))


UNIFORM = {"name": "quadratic", "distribution": "uniform"}
QUADRATICS = Case("quadratics-uniform", UNIFORM, instances=64, chunk=8)
LARGE: dict[str, Any] = {"chunk": 1, "draws": 5, "pairs": 1, "smoothed": 2, "evolution": (20, 100)}
SHORT: dict[str, Any] = {"horizons": (20,), "main": 20, "window": 5}
MNIST = Case("mnist-lstm", {"name": "mlp"}, 4, sigmas=(0.001, 0.01, 0.1), **LARGE)
CASES = {
    "quadratics": QUADRATICS,
    "quadratics, untrained": replace(
        QUADRATICS, horizons=(20, 100), sigmas=(0.01, 0.1), trained=False
    ),
    "mnist, short": replace(MNIST, draws=16, smoothed=8, **SHORT),
    "mnist": replace(MNIST, horizons=(100, 200)),
    "convnet": Case("cifar10", {"name": "convnet"}, 2, sigmas=(0.01, 0.1), **SHORT, **LARGE),
}
SMALL = replace(QUADRATICS, instances=8, chunk=2, draws=4, smoothed=2, **SHORT)


@torch.no_grad()
def over_a_run(
    spec: Mapping[str, Any],
    optimizer: Learned,
    problem: Problem,
    instances: Sequence[int],
    horizon: int,
    draw: int = 0,
) -> Tensor:
    """An estimate of the gradient of the mean loss over runs at one φ [size], in float64."""
    estimator = estimators.make(dict(spec))
    objective = Objective(problem, instances, "train", 0, estimator.copies)
    place, _ = estimator.begin(optimizer, objective)
    total = torch.zeros_like(optimizer.phi, dtype=torch.float64)
    for number, steps in enumerate(estimator.windows(horizon)):
        rng = Rng(draw, "draw", 0, number)
        made = estimator.gradient(optimizer, objective, place, steps, "loss", rng)
        place, total = made.place, total + made.gradient
    return total / horizon


@torch.no_grad()
def slope(
    direction: Tensor,
    optimizer: Learned,
    problem: Problem,
    instances: Sequence[int],
    horizon: int,
    step: float = STEP,
) -> dict[str, float]:
    """How the mean loss over runs rises on the way from φ − `step` to φ + `step` along [size]."""
    noise = step * (direction / direction.norm()).to(optimizer.phi).unsqueeze(0)
    objective = Objective(problem, instances, "train", 0, 2)
    begun, _ = Antithetic(pairs=1).begin(optimizer, objective)
    window = walk_pairs(optimizer, objective, begun.point, noise, horizon, "loss")
    after, before = torch.stack(window.losses).double().mean(0).view(2, -1)
    rises = (after - before) / (2 * step)
    error = rises.std() / len(rises) ** 0.5
    return {"slope": rises.mean().item(), "slope_error": error.item()}


def measured(case: Case, horizon: int) -> Iterator[Found]:
    """All estimators at one horizon, the exact gradient first."""
    optimizer, problem = case.optimizer(), problems.make(dict(case.problem))
    everything = range(case.instances)
    fresh = range(case.instances, 3 * case.instances)
    chunks = [everything[i : i + case.chunk] for i in everything[:: case.chunk]]

    def of_chunks(spec: Mapping[str, Any], moved: Learned = optimizer) -> tuple[Tensor, float]:
        """The gradient on each chunk, and the seconds that all instances take side by side."""
        begin = time.process_time()
        each = torch.stack([over_a_run(spec, moved, problem, own, horizon) for own in chunks])
        if case.chunk > 1:
            begin = time.process_time()
            over_a_run(spec, moved, problem, everything, horizon)
        return each, time.process_time() - begin

    for name in ("second_order", "truncated"):  # what is compiled on first use is not counted
        over_a_run({"name": name}, optimizer, problem, chunks[0], 2)
    exact, cost = of_chunks(EXACT)
    truth = exact.mean(0)
    scale = truth.norm().item()

    def found(key: Mapping[str, Any], draws: Tensor, over: Tensor, seconds: float) -> Found:
        """Of draws on the same instances, and the same estimator's gradients `over` instances."""
        of_batch = over.var(0) / len(chunks) / scale**2
        row = {"horizon": horizon, **key, **judged(draws, truth)}
        row |= {"instance_std": of_batch.sum().sqrt().item(), "norm": scale}
        # The mean of some draws of evolution strategies is still mostly noise.
        if "pairs" not in key:
            row |= slope(draws.mean(0), optimizer, problem, fresh, horizon)
        row |= {"seconds": seconds, "cost": seconds / cost}
        return Found(row, draws / scale)

    key: dict[str, Any] = {"estimator": "second_order", "window": horizon}
    yield found(key, truth[None], exact, cost)
    windows = [window for window in WINDOWS if window < horizon]
    keys = [{"estimator": "second_order", "window": window} for window in windows]
    for window in (*windows, horizon):
        for discount in (1.0, 0.95):
            keys.append({"estimator": "truncated", "window": window, "discount": discount})
    for key in keys:
        each, seconds = of_chunks(_spec(key))
        yield found(key, each.mean(0, keepdim=True), each, seconds)

    for sigma in case.sigmas if horizon <= case.main else (SIGMA,):
        if horizon not in case.evolution:
            continue
        widths = [width for width in windows if sigma == SIGMA or width == case.window]
        for name, window in (("nres", horizon), *(("pes", width) for width in widths)):
            key = {"estimator": name, "window": window, "sigma": sigma, "pairs": case.pairs}
            begin = time.process_time()
            given = (_spec(key), optimizer, problem, everything, horizon)
            draws = torch.stack([over_a_run(*given, draw) for draw in range(case.draws)])
            seconds = (time.process_time() - begin) / case.draws
            # Between instances, it is taken to vary as the truth does.
            yield found(key, draws, exact, seconds)
        sides, seconds = [], 0.0
        for draw in range(case.smoothed):
            noise = sigma * Rng(draw, "smoothed").normal(optimizer.layout.size)
            for side in (noise, -noise):
                each, taken = of_chunks(EXACT, optimizer.with_weights(optimizer.phi + side))
                sides.append(each)
                seconds += taken / case.smoothed
        over = torch.stack(sides).view(case.smoothed, 2, *exact.shape).mean(1)
        key = {"estimator": "smoothed", "window": horizon, "sigma": sigma}
        yield found(key, over.mean(1), over.mean(0), seconds)


def _spec(key: Mapping[str, Any]) -> dict[str, Any]:
    """An estimator's specification, from the columns of the table that tell it."""
    return {"name" if name == "estimator" else name: value for name, value in key.items()}


def study(cases: Mapping[str, Case]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of estimators, and that of mixtures."""
    alone, together = [], []
    for name, case in cases.items():
        for horizon in case.horizons:
            found = list(measured(case, horizon))
            alone += [{"case": name, **one.row} for one in found]
            together += [{"case": name, **row} for row in mixtures(found)]
            print(pd.DataFrame(alone[-len(found) :]).to_string(), flush=True)
    return pd.DataFrame(alone), pd.DataFrame(together)


def drawn(table: pd.DataFrame, cases: Mapping[str, Case]) -> Figure:
    """For each case: bias by window, bias and noise by σ, and the error of what a budget buys."""
    names = [name for name in cases if name in set(table["case"])]
    figure = Figure(figsize=(1.2 + 1.9 * len(names), 6), layout="constrained")
    axes = figure.subplots(3, len(names), squeeze=False)
    budgets = np.logspace(0, 5, 30)
    for (top, middle, bottom), name in zip(axes.T, names, strict=True):
        main = cases[name].main
        rows = table[(table["case"] == name) & (table.horizon == main)].sort_values("sigma")
        backward = rows[~(rows.discount == 0.95)].sort_values("window")
        lines = {
            "exact": backward[(backward.estimator == "second_order") & (backward.window == main)],
            "second_order": backward[backward.estimator == "second_order"],
            "truncated": backward[backward.estimator == "truncated"],
            "truncated, discount .95": rows[rows.discount == 0.95].sort_values("window"),
        }
        for colour, (label, own) in zip(("k", "C0", "C1", "C2"), lines.items(), strict=True):
            top.plot(own.window, own.bias, ".-", color=colour)
            for _, row in own[own.window.isin((main, cases[name].window))].iterrows():
                short = row.window < main
                if label == "exact" or short:
                    bottom.plot(budgets, rmse(row, budgets), color=colour, label=label)
        smoothed = rows[rows.estimator == "smoothed"]
        middle.plot(smoothed.sigma, smoothed.bias, ".-", color="C3")
        for colour, estimator in (("C3", "nres"), ("C4", "pes")):
            of_it = rows.estimator == estimator
            own = rows[of_it & rows.window.isin((main, cases[name].window))]
            middle.plot(own.sigma, own["std"] * own.pairs**0.5, ".:", color=colour)
            # NRES has the bias of the smoothed gradient, and PES is taken to have it.
            row = own.iloc[0].to_dict()
            row["bias"] = smoothed[smoothed.sigma == row["sigma"]].bias.iloc[0]
            bottom.plot(budgets, rmse(row, budgets), color=colour, label=f"{estimator}, least σ")
        top.set(title=f"{name}\n{main} steps", ylim=(0, 2), xlabel="window")
        middle.set(xscale="log", yscale="log", xlabel="σ")
        bottom.set(xscale="log", yscale="log", xlabel="budget, in exact passes")
        bottom.set_xticks((1, 100, 10_000), ("1", "100", "10⁴"))
    labels = ("bias", "bias —, noise ···", "error")
    for axis in axes.flat:  # the suite's settings take no mathematics in texts
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter("{x:g}")
            scale.set_minor_formatter(NullFormatter())
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label)
    figure.legend(*axes[2, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def main() -> None:
    """Measure and print; without ``--quick`` replace the cases' rows of the tables, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], metavar="CASE")
    parser.add_argument("--quick", action="store_true", help="one small case; nothing is written")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.quick:
        print(study({"small": SMALL})[1].to_string())
        return
    names = chosen.cases or list(CASES)
    tables = study({name: CASES[name] for name in names})
    for file, table in zip(("estimators", "estimators-mixed"), tables, strict=True):
        path = FOLDER / f"{file}.csv"
        if path.exists():
            kept = pd.read_csv(path)
            table = pd.concat([kept[~kept["case"].isin(names)], table])
        order = table["case"].map(list(CASES).index)
        table = table.iloc[np.argsort(order, kind="stable")]
        write_text_atomic(path, table.to_csv(index=False, float_format="%.3g"))
    drawing = Drawing(
        "estimators", "", lambda: drawn(pd.read_csv(FOLDER / "estimators.csv"), CASES)
    )
    write_bytes_atomic(FOLDER / "estimators.png", render(drawing).png)


if __name__ == "__main__":
    main()
