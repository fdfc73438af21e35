"""The tidy table of curves, and the runs in it as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from suite.errors import SuiteError
from suite.parquet_file import REAL, TEXT, WHOLE, load_result
from suite.statistics import Floats

# Of an evaluation's own table, and of all of them.
RUN_COLUMNS = {"learning_rate": REAL, "instance": WHOLE, "step": WHOLE, "loss": REAL}
TIDY = {"experiment": TEXT, "panel": TEXT, "problem": TEXT, "optimizer": TEXT, **RUN_COLUMNS}
COLUMNS = tuple(TIDY)


@dataclass(frozen=True)
class Runs:
    """The runs of one optimizer in one panel.

    `instances` [n], `steps` [T] (updates done), `loss` [n, T] (infinite from where a run
    diverged), `learning_rate` NaN where none was tuned.
    """

    instances: NDArray[np.int64]
    steps: NDArray[np.int64]
    loss: Floats
    learning_rate: float

    def after(self, step: int) -> pd.Series:
        """Loss after `step` updates, indexed by instance; empty if that was not recorded."""
        column = np.flatnonzero(self.steps == step)
        if not len(column):
            return pd.Series(dtype=float)
        return pd.Series(self.loss[:, column[0]], index=self.instances)

    def finished(self) -> NDArray[np.bool_]:
        """Which of the runs [n] never diverged."""
        return np.asarray(np.isfinite(self.loss).all(axis=1))


# Runs by (experiment, panel, optimizer).
RunTable = Mapping[tuple[str, str, str], Runs]


def no_curves() -> pd.DataFrame:
    """The tidy table of nothing, each column of its kind, so that it can be read back."""
    kinds = {TEXT: "string", WHOLE: "int64", REAL: "float64"}
    return pd.DataFrame({name: pd.Series(dtype=kinds[kind]) for name, kind in TIDY.items()})


def load_curves(path: Path) -> pd.DataFrame:
    """Read `curves.parquet`.

    Raises:
        SuiteError: the file is missing, damaged, too large, or lacks a column.
    """
    if not path.exists():
        raise SuiteError(f"{path} is missing: run the experiment into this folder first")
    return load_result(path, TIDY)


def runs_by_optimizer(curves: pd.DataFrame) -> dict[tuple[str, str, str], Runs]:
    """The runs of each (experiment, panel, optimizer) of a tidy table.

    Raises:
        SuiteError: an optimizer has not one loss for each of its instances and steps.
    """
    runs = {}
    for key, rows in curves.groupby(["experiment", "panel", "optimizer"], observed=True):
        experiment, panel, optimizer = (str(part) for part in key)
        if rows.duplicated(["instance", "step"]).any():
            raise SuiteError(
                f"curves: {experiment}, panel {panel!r}, {optimizer!r} has more than one loss for "
                "an instance and step; there must be one"
            )
        if rows["instance"].nunique() * rows["step"].nunique() != len(rows):
            raise SuiteError(
                f"curves: {experiment}, panel {panel!r}, {optimizer!r} lacks a loss of some "
                "instance and step; run the experiment again"
            )
        table = rows.pivot(index="instance", columns="step", values="loss").sort_index(axis=1)
        loss = table.to_numpy(dtype=np.float64)
        runs[experiment, panel, optimizer] = Runs(
            instances=table.index.to_numpy(),
            steps=table.columns.to_numpy(),
            loss=np.where(np.isfinite(loss), loss, np.inf),
            learning_rate=float(rows["learning_rate"].iloc[0]),
        )
    return runs
