"""Which settings give the paper's curves? Searches them: python -m benchmarks.fit SPEC.yaml.

A specification names panels of the paper, what may vary in the problem and in each optimizer, and
how many updates and runs a trial has. Each combination is run on instances of the validation
split, its learning rate by a search of its own, and compared with the figure's curve. What comes
out is a table, one row a trial, best first; finished trials are kept, so an interrupted search goes
on. The LSTM is never fitted: its curve is what checks the settings found. With `best: end` the
rates are tuned instead: the best one ends lowest, wherever the figure is.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from l2l.suite.core.convert import convert
from l2l.suite.core.digests import digest
from l2l.suite.core.registry import optimizers, problems
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.yaml import read_yaml
from l2l.suite.inner.evaluate import final_steps
from l2l.suite.inner.loop import descend
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.process import as_in_a_cell
from l2l.suite.plan.definitions import PaperPanel
from l2l.suite.report.agreement import log_ratios, rms

# Updates at which a table shows our mean loss beside the figure's.
SHOWN = (1, 2, 5, 10, 20, 30, 50, 70, 100, 150, 200, 300, 400, 600, 800, 1000)


@dataclass(frozen=True)
class Fit:
    """A specification.

    Args:
        figure: of the paper, such as ``fig7``.
        panels: by the figure's panel, what its problem has besides `problem`.
        problem: what all panels' problems have.
        vary: problem settings to try, each a list; panels share them.
        optimizers: by the figure's legend, an optimizer without its rate; a list is tried entry
            by entry.
        rates: by optimizer, the rates to begin with, in order and of one ratio.
        steps: updates of a run.
        instances: runs of a trial.
        refine: how often the ratio between rates is halved around the best.
        best: ``rms``, the rate whose curve is nearest to the figure's, or ``end``, the one with the
            lowest mean loss over the last tenth of the updates.
        seed: of the instances.
    """

    figure: str
    panels: dict[str, dict[str, Any]]
    problem: dict[str, Any]
    optimizers: dict[str, dict[str, Any]]
    rates: dict[str, list[float]]
    vary: dict[str, list[Any]] = field(default_factory=dict)
    steps: int = 100
    instances: int = 4
    refine: int = 1
    best: Literal["rms", "end"] = "rms"
    seed: int = 1


def candidates(settings: Mapping[str, Any], vary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """`settings` with every combination of one value of each entry of `vary`."""
    for values in itertools.product(*vary.values()):
        yield {**settings, **dict(zip(vary, values, strict=True))}


def split_lists(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is fixed, and what is a list of values to try."""
    fixed = {k: v for k, v in settings.items() if not isinstance(v, (list, tuple))}
    return fixed, {k: v for k, v in settings.items() if isinstance(v, (list, tuple))}


@torch.no_grad()
def curves(
    problem: Mapping[str, Any], optimizer: Mapping[str, Any], steps: int, instances: int, seed: int
) -> np.ndarray:
    """Losses [steps + 1, instances] after 0, 1, … `steps` updates on validation instances."""
    with as_in_a_cell():
        objective = Objective(problems.make(problem), range(instances), "validation", seed)
        points = descend(objective, optimizers.make(optimizer), steps)
        return np.array([point.loss.double().cpu().numpy().copy() for point in points])


def end(losses: np.ndarray) -> tuple[float, float]:
    """The mean loss over the last tenth of the updates, and its standard error over runs."""
    ends = losses[final_steps(len(losses) - 1)].mean(0)
    error = ends.std(ddof=1) / len(ends) ** 0.5 if len(ends) > 1 else np.nan
    return float(ends.mean()), float(error)


class Table:
    """Finished trials, sorted by the column `by`, in a file that is written anew after each."""

    def __init__(self, path: Path, by: str) -> None:
        self.path = path
        self.by = by
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            self.rows = pd.read_csv(path).to_dict("records")
        self._known = {str(row.get("trial")): row for row in self.rows}

    def find(self, trial: str) -> dict[str, Any] | None:
        return self._known.get(trial)

    def add(self, row: dict[str, Any]) -> None:
        self.rows = [each for each in self.rows if each.get("trial") != row["trial"]] + [row]
        self._known[row["trial"]] = row
        table = pd.DataFrame(self.rows).sort_values(["panel", "optimizer", self.by])
        write_text_atomic(self.path, table.to_csv(index=False, float_format="%.4g"))


def run_fit(fit: Fit, table: Table) -> None:
    """All trials of a specification."""
    for problem_settings in candidates({}, fit.vary):
        for panel, own in fit.panels.items():
            problem = {**fit.problem, **own, **problem_settings}
            for name, optimizer in fit.optimizers.items():
                for settings in candidates(*split_lists(optimizer)):
                    search_rate(fit, table, panel, problem, problem_settings, name, settings)


def search_rate(
    fit: Fit,
    table: Table,
    panel: str,
    problem: Mapping[str, Any],
    problem_settings: Mapping[str, Any],
    name: str,
    settings: Mapping[str, Any],
) -> None:
    """The best rate by `fit.best`: a grid, widened at its edges, then refined."""
    found: dict[float, float] = {}

    def try_rate(rate: float) -> None:
        row: dict[str, Any] = {
            "panel": panel,
            "optimizer": name,
            "problem": json.dumps(problem_settings),
            "settings": json.dumps({k: v for k, v in settings.items() if k != "name"}),
            "learning_rate": rate,
            "steps": fit.steps,
            "instances": fit.instances,
        }
        # All that decides a trial, so that no other specification's is taken for it.
        decides = (fit.figure, problem, dict(settings), f"{rate:.4g}", fit.seed)
        row["trial"] = digest([panel, name, fit.steps, fit.instances, *decides])
        known = table.find(row["trial"])
        if known is None or pd.isna(known.get(fit.best)):
            runs = curves(problem, {**settings, "lr": rate}, fit.steps, fit.instances, fit.seed)
            losses = runs.mean(1)
            _, ratios = log_ratios(losses, PaperPanel(fit.figure, panel), name)
            row["rms"] = rms(ratios)
            row["end"], row["end_error"] = end(runs)
            row |= {f"after {s}": losses[s] for s in SHOWN if s <= fit.steps}
            table.add(row)
            known = row
            shown = " ".join(f"{losses[s]:.3f}" for s in SHOWN if 10 <= s <= fit.steps)
            print(f"{panel} {name} {problem_settings} {settings} {rate:.4g}: ", end="")
            print(f"rms {row['rms']:.3f}  end {row['end']:.4f}  {shown}", flush=True)
        found[rate] = float(known[fit.best])

    rates = list(fit.rates[name])
    ratio = rates[1] / rates[0]
    for rate in rates:
        try_rate(rate)
    for _ in range(4):
        best = min(found, key=lambda rate: found[rate])
        if best == min(found):
            try_rate(best / ratio)
        elif best == max(found):
            try_rate(best * ratio)
    for _ in range(fit.refine):
        ratio **= 0.5
        best = min(found, key=lambda rate: found[rate])
        try_rate(best / ratio)
        try_rate(best * ratio)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("spec", type=Path, help="such as benchmarks/fits/figure-7.yaml")
    parser.add_argument("--out", type=Path, default=Path("results/reference/fits"))
    args = parser.parse_args()
    fit = convert(read_yaml(args.spec), Fit, str(args.spec))
    run_fit(fit, Table(args.out / f"{args.spec.stem}.csv", fit.best))


if __name__ == "__main__":
    main()
