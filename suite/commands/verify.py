"""verify: the first updates of a few runs once more, beside what a results folder says of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import Tensor

from l2l.optimizers.learned.checkpoint import load_optimizer
from l2l.suite.core.convert import fill
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.core.registry import problems
from l2l.suite.core.types import Optimizer
from l2l.suite.files.places import CELLS, CHECKPOINTS, OPTIMIZER
from l2l.suite.files.yaml import parse_yaml
from l2l.suite.inner.evaluate import evaluate
from l2l.suite.inner.process import as_in_a_cell
from l2l.suite.plan.config import Experiment, Panel
from l2l.suite.plan.definitions import ExperimentInfo, PanelInfo
from l2l.suite.plan.probe import untried
from l2l.suite.plan.resolved import optimizer_at, optimizer_config
from l2l.suite.report.results import load_results
from l2l.suite.run.folder import check_folder

# Runs that begin alike drift apart, by rounding on other machines and by their own instability.
TOLERANCE = 1e-3
TRAINED = ("metatrain", "select")
OWNER = ["experiment", "panel", "optimizer"]


@dataclass(frozen=True)
class Verified:
    """What came of the curve of an optimizer in an experiment's panel.

    Args:
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
        known = self.difference if math.isfinite(self.difference) else None
        return asdict(self) | {"difference": known}


def verify(root: Path, names: Sequence[str] = (), runs: int = 2, steps: int = 10) -> list[Verified]:
    """Compute curves' beginnings with the code that is here, and compare them with what is stored.

    So it shows which of somebody's results this code, on this machine, would give again: keys tell
    whether a definition was written differently, this tells whether it means something else.
    Learned optimizers are those that the folder's cells trained, or else those shipped.

    Args:
        root: a results folder; its tables suffice.
        names: its experiments to verify; all if empty.
        runs: how many of each curve's runs, the first ones.
        steps: how many of their updates.

    Raises:
        SuiteError: the folder cannot be read, or has no experiment of a name.
    """
    check_folder(root)
    results = load_results(root)
    known = [info.name for info in results.experiments]
    for name in names:
        if name not in known:
            raise SuiteError(f"{root} has no experiment {name!r}: {nearest(name, known)}")
    losses, curves = results.tables.losses, results.tables.curves
    losses = losses[(losses["instance"] < runs) & (losses["step"] <= steps)]
    # The first is the last of its training: those after it were made on the way to it.
    trained = results.sources[results.sources["kind"].isin(TRAINED)].groupby(OWNER)["cell"].first()
    stored = dict(list(losses.groupby(OWNER)))
    rates = curves.groupby(OWNER)["learning_rate"].first()
    found = []
    for info in results.experiments:
        if names and info.name not in names:
            continue
        experiments = _experiments(info)
        for panel in info.panels:
            for label in panel.optimizers:
                key = info.name, panel.name, label
                if key not in stored:
                    continue
                rate = float(rates.get(key, math.nan))
                weights = root / CELLS / Path(str(trained.get(key))).name / OPTIMIZER
                try:
                    own = stored[key].pivot(index="instance", columns="step", values="loss")
                    again = _again(experiments, panel, label, rate, weights, own)
                    found.append(_compared(key, own, again))
                except (SuiteError, ValueError) as error:
                    found.append(Verified(*key, "unknown", note=str(error)))
    return found


def _experiments(info: ExperimentInfo) -> list[Experiment]:
    """The experiment as it was run, the last run first; without what this version cannot read."""
    found: list[Experiment] = []
    for text in reversed(info.every_settings()):
        with suppress(SuiteError, ValueError):
            found.append(fill(Experiment, parse_yaml(text), f"{info.name}:"))
    return found


def _again(
    experiments: Sequence[Experiment],
    info: PanelInfo,
    label: str,
    rate: float,
    weights: Path,
    own: pd.DataFrame,
) -> Tensor:
    """The losses of a curve's stored runs, computed here: [n, steps + 1].

    Raises:
        SuiteError: they cannot be.
    """
    for experiment in experiments:
        panel = experiment.every_panel().get(info.name)
        if panel is not None and label in panel.optimizers:
            break
    else:
        raise SuiteError("its settings cannot be read by this version")
    problem = problems.make(panel.problem, info.name)
    if problem.notice != info.notice:
        raise SuiteError(
            f"its data is not the same here ({problem.notice or 'here it is complete'})"
        )
    optimizer = _optimizer(experiment, panel, label, rate, weights)
    # Runs whose state is kept are as long as those before them.
    steps = panel.steps if optimizer.earlier_runs else int(own.columns.max())
    with as_in_a_cell():
        return evaluate(problem, optimizer, steps, list(own.index), experiment.seed)


def _optimizer(
    experiment: Experiment, panel: Panel, label: str, rate: float, weights: Path
) -> Optimizer:
    """The optimizer of a curve, at the rate that it was tuned to; that of `weights` if learned.

    It is the shipped one if there is no such file.
    """
    spec = panel.optimizers[label]
    if "trained" not in spec:
        with untried():
            return optimizer_at(optimizer_config(spec, panel.problem, label, panel.steps), rate)
    if weights.is_file():
        return load_optimizer(weights)
    training = experiment.training.get(spec["trained"])
    file = CHECKPOINTS / f"{training.checkpoint if training else None}.safetensors"
    if not file.is_file():
        raise SuiteError("its trained weights are neither shipped nor in a cell of this folder")
    return load_optimizer(file)


def _compared(key: tuple[str, str, str], stored: pd.DataFrame, here: Tensor) -> Verified:
    """What stored losses [n, some steps] are beside those computed here [n, steps + 1]."""
    there = stored.to_numpy(np.float64)
    again = here.numpy()[:, stored.columns].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.where(again == there, 0.0, np.abs(again - there) / np.abs(there))
    # Where a run diverged in one of the two only.
    apart[np.isnan(apart)] = np.inf
    difference = float(apart.max())
    if difference <= TOLERANCE:
        return Verified(*key, "same", difference)
    worst = stored.columns[apart.max(axis=0).argmax()]
    return Verified(*key, "differs", difference, f"by {difference:.2g} after {worst} updates")
