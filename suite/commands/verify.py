"""verify: the first updates of a few runs once more, beside what a results folder says of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

from l2l.optimizers.learned.checkpoint import load_optimizer
from l2l.suite.core.convert import fill
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.core.registry import optimizers, problems
from l2l.suite.core.types import Optimizer
from l2l.suite.files.links import refuse_links
from l2l.suite.files.places import CHECKPOINTS
from l2l.suite.inner.evaluate import evaluate
from l2l.suite.plan.config import Experiment, Panel
from l2l.suite.plan.definitions import ExperimentInfo
from l2l.suite.plan.probe import untried
from l2l.suite.plan.resolved import optimizer_config
from l2l.suite.report.results import load_results

# Runs that begin alike drift apart, by rounding on other machines and by their own instability.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verified:
    """What came of one curve.

    Args:
        experiment: whose it is.
        panel: likewise.
        optimizer: likewise.
        state: ``same``, ``differs``, or ``unknown`` if it cannot be computed here.
        difference: the largest one of a run's loss, relative to the stored one; NaN if unknown.
        note: where it differs, or why it cannot be computed.
    """

    experiment: str
    panel: str
    optimizer: str
    state: Literal["same", "differs", "unknown"]
    difference: float = math.nan
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data for `verify --json`; what is not finite is null there."""
        return asdict(self) | {
            "difference": None if math.isnan(self.difference) else self.difference
        }


def verify(root: Path, names: Sequence[str] = (), runs: int = 2, steps: int = 10) -> list[Verified]:
    """Compute curves' beginnings with the code that is here, and compare them with what is stored.

    So it shows which of somebody's results this code, on this machine, would give again: keys tell
    whether a definition was written differently, this tells whether it means something else.
    Learned optimizers are those shipped; those that a run trained itself are unknown.

    Args:
        root: a results folder; its tables suffice.
        names: its experiments to verify; all if empty.
        runs: how many of each curve's runs, the first ones.
        steps: how many of their updates.

    Raises:
        SuiteError: the folder cannot be read, or has no experiment of a name.
    """
    refuse_links(root)
    results = load_results(root)
    known = [info.name for info in results.experiments]
    for name in names:
        if name not in known:
            raise SuiteError(f"{root} has no experiment {name!r}: {nearest(name, known)}")
    losses, curves = results.tables.losses, results.tables.curves
    losses = losses[(losses["instance"] < runs) & (losses["step"] <= steps)]
    rates = curves.groupby(["experiment", "panel", "optimizer"])["learning_rate"].first()
    stored = {
        key: table.pivot(index="instance", columns="step", values="loss")
        for key, table in losses.groupby(["experiment", "panel", "optimizer"])
    }
    found = []
    for info in results.experiments:
        if names and info.name not in names:
            continue
        for panel in info.panels:
            for label in panel.optimizers:
                key = info.name, panel.name, label
                if key in stored:
                    found.append(_verified(info, key, stored[key], float(rates[key])))
    return found


def _verified(
    info: ExperimentInfo, key: tuple[str, str, str], stored: pd.DataFrame, rate: float
) -> Verified:
    try:
        experiment: Experiment = fill(Experiment, yaml.safe_load(info.settings), info.name)
        panel = experiment.every_panel()[key[1]]
        problem = problems.make(panel.problem, key[1])
        told = info.panel(key[1])
        if told is not None and problem.notice != told.notice:
            return Verified(*key, "unknown", note=f"its data is not here ({problem.notice})")
        optimizer = _optimizer(experiment, panel, key[2], rate)
        # Runs whose state is kept are as long as those before them.
        last = panel.steps if optimizer.earlier_runs else int(stored.columns.max())
        losses = evaluate(problem, optimizer, last, list(stored.index), experiment.seed)
    except (SuiteError, KeyError) as error:
        return Verified(*key, "unknown", note=str(error))
    difference, worst = 0.0, 0
    for step, instance, loss in _cells(stored):
        here = losses[list(stored.index).index(instance), step].item()
        apart = 0.0 if here == loss else abs(here - loss) / abs(loss) if loss else math.inf
        if not apart <= difference:
            difference, worst = apart, step
    if difference <= TOLERANCE:
        return Verified(*key, "same", difference)
    return Verified(*key, "differs", difference, f"by {difference:.2g} after {worst} updates")


def _cells(stored: pd.DataFrame) -> Iterator[tuple[int, int, float]]:
    for step in stored.columns:
        for instance, loss in stored[step].items():
            yield int(step), int(str(instance)), float(loss)


def _optimizer(experiment: Experiment, panel: Panel, label: str, rate: float) -> Optimizer:
    """The optimizer of a curve, at the rate that it was tuned to; the shipped one if learned."""
    spec = panel.optimizers[label]
    if "trained" in spec:
        training = experiment.training[spec["trained"]]
        file = CHECKPOINTS / f"{training.checkpoint}.safetensors"
        if not file.is_file():
            raise SuiteError(f"what it was trained to is not shipped ({training.checkpoint})")
        return load_optimizer(file)
    with untried():
        config = optimizer_config(spec, panel.problem, label, panel.steps)
    spec = dict(config["spec"])
    if config["tuned"]:
        spec[config["tuned"]] = rate
    made: Optimizer = optimizers.make(spec, label)
    return made
