"""One optimizer's runs on test instances, with every step, as an evaluation leaves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.parquet import REAL, WHOLE, load_result
from l2l.suite.report.statistics.intervals import Floats

# Of an evaluation's tables of held-out losses and of losses.
HELD_OUT_COLUMNS = {"instance": WHOLE, "step": WHOLE, "loss": REAL}
RUN_COLUMNS = {"learning_rate": REAL, **HELD_OUT_COLUMNS}


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

    def finished(self) -> NDArray[np.bool_]:
        """Which of the runs [n] never diverged."""
        return np.asarray(np.isfinite(self.loss).all(axis=1))

    def between(self, first: int, last: int) -> Floats:
        """The losses [n, last − first + 1] at the steps from `first` to `last`, both included."""
        return self.loss[:, (self.steps >= first) & (self.steps <= last)]


def load_runs(path: Path, max_rows: int, columns: Mapping[str, str] = RUN_COLUMNS) -> Runs:
    """Read an evaluation's `curves.parquet`; or with the `HELD_OUT_COLUMNS` its `held-out.parquet`.

    Raises:
        SuiteError: the file is missing, damaged, or has more than `max_rows` rows; or it has not
            one loss for each instance and step.
    """
    return runs_of(load_result(path, columns, max_rows), str(path))


def runs_of(table: pd.DataFrame, where: str) -> Runs:
    """The runs in a table with the columns `RUN_COLUMNS`, of which it may lack the learning rate.

    Raises:
        SuiteError: it has not one loss for each instance and step; the text begins with `where`.
    """
    if not len(table):
        raise SuiteError(f"{where} has no runs; run the experiment again")
    if table.duplicated(["instance", "step"]).any():
        raise SuiteError(
            f"{where} has more than one loss for an instance and step; there must be one"
        )
    if table["instance"].nunique() * table["step"].nunique() != len(table):
        raise SuiteError(
            f"{where} lacks a loss of some instance and step; run the experiment again"
        )
    losses = table.pivot(index="instance", columns="step", values="loss").sort_index(axis=1)
    loss = losses.to_numpy(dtype=np.float64)
    return Runs(
        instances=losses.index.to_numpy(),
        steps=losses.columns.to_numpy(),
        loss=np.where(np.isfinite(loss), loss, np.inf),
        learning_rate=float(table["learning_rate"].iloc[0]) if "learning_rate" in table else np.nan,
    )
