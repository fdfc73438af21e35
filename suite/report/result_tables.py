"""The Parquet tables of a results folder; docs/results.md says what is in their columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.parquet import REAL, TEXT, WHOLE, load_result, save_parquet

OWNER = {"experiment": TEXT, "panel": TEXT}
CURVE = {**OWNER, "optimizer": TEXT}
RUN = {**CURVE, "instance": WHOLE}
MEAN = {"step": WHOLE, "mean": REAL, "low": REAL, "high": REAL, "n": WHOLE, "diverged": WHOLE}
COORDINATE = {**RUN, "coordinate": WHOLE, "step": WHOLE, "gradient": REAL, "update": REAL}
COLUMNS = {
    "curves": {**OWNER, "problem": TEXT, "optimizer": TEXT, "learning_rate": REAL, **MEAN},
    "losses": {**RUN, "step": WHOLE, "loss": REAL},
    "held_out": {**CURVE, **MEAN},
    "scores": {**CURVE, "score": TEXT, "instance": WHOLE, "value": REAL},
    "anytime": {**RUN, "step": WHOLE, "loss": REAL},
    "traces": COORDINATE,
    "responses": COORDINATE,
}
# Most experiments have no held-out data, trace nothing, and are no benchmark.
OPTIONAL = ("held_out", "anytime", "traces", "responses")
# A rate is given to a claim and a reader as it was tuned.
DOUBLE = ("learning_rate",)


@dataclass(frozen=True)
class Tables:
    """The rows of some experiments; `COLUMNS` has the columns of each table.

    Args:
        curves: the mean loss of each optimizer at every step, with its band.
        losses: the loss of each run at some steps.
        held_out: the mean held-out loss of each optimizer at a few steps, with its band.
        scores: what claims and final losses are computed from, for each run.
        anytime: of benchmarks, the final loss of each run had it ended at some steps.
        traces: the gradients and updates of the coordinates that figures show.
        responses: the updates of these as functions of the gradient.
    """

    curves: pd.DataFrame
    losses: pd.DataFrame
    held_out: pd.DataFrame
    scores: pd.DataFrame
    anytime: pd.DataFrame
    traces: pd.DataFrame
    responses: pd.DataFrame

    def by_name(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def mapped(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Tables:
        """Each table as `change` returns it."""
        return Tables(**{name: change(table) for name, table in self.by_name().items()})


def join_tables(parts: Sequence[Tables]) -> Tables:
    """The rows of all parts, each number in the type that it is stored in."""
    found = {}
    for name, columns in COLUMNS.items():
        # Those without rows have no types of their own, and would change the others'.
        tables = [table for part in parts if len(table := part.by_name()[name])]
        empty = pd.DataFrame({column: [] for column in columns})
        joined = pd.concat(tables, ignore_index=True) if tables else empty
        found[name] = joined[list(columns)].astype(
            {column: _type(column, kind) for column, kind in columns.items()}
        )
    return Tables(**found)


def save_tables(folder: Path, tables: Tables) -> None:
    """Write each as Parquet, the `OPTIONAL` ones only if they have rows.

    Raises:
        SuiteError: as `suite.files.atomic.atomic_path`.
    """
    for name, rows in join_tables([tables]).by_name().items():
        path = _path(folder, name)
        if name in OPTIONAL and not len(rows):
            path.unlink(missing_ok=True)
            continue
        singles = [c for c in rows if rows[c].dtype == np.float32]
        save_parquet(
            path,
            rows,
            compression="zstd",
            compression_level=19,
            # Bytes of equal weight stand together, of which the upper ones repeat.
            use_dictionary=[c for c in rows if c not in singles],
            column_encoding=dict.fromkeys(singles, "BYTE_STREAM_SPLIT"),
        )


def load_tables(folder: Path) -> Tables:
    """Read what `save_tables` wrote.

    Raises:
        SuiteError: a table is missing, damaged, too large, or lacks a column.
    """
    found = {}
    for name, columns in COLUMNS.items():
        path = _path(folder, name)
        if path.exists():
            found[name] = load_result(path, columns)
        elif name in OPTIONAL:
            found[name] = pd.DataFrame(columns=list(columns))
        else:
            raise SuiteError(f"{path} is missing: run the experiment into this folder first")
    return join_tables([Tables(**found)])


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name.replace('_', '-')}.parquet"


def _type(column: str, kind: str) -> str:
    if kind == REAL:
        return "float64" if column in DOUBLE else "float32"
    return "int32" if kind == WHOLE else "str"
