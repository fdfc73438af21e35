"""The tidy tables of traces (Appendix B), as they lie in a cell."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from l2l.suite.files.parquet import REAL, TEXT, WHOLE, load_result, save_parquet

PLACE = {"optimizer": TEXT, "instance": WHOLE, "coordinate": WHOLE}
COLUMNS = {
    "traces": {**PLACE, "step": WHOLE, "gradient": REAL, "update": REAL},
    "responses": {**PLACE, "step": WHOLE, "gradient": REAL, "update": REAL},
    "impulses": {**PLACE, "lag": WHOLE, "effect": REAL},
}


@dataclass(frozen=True)
class Traces:
    """What was recorded of single coordinates along trajectories; `COLUMNS` has the columns.

    Args:
        traces: the gradient met at each step, and the update of each optimizer.
        responses: the update of each optimizer as a function of the gradient at a step.
        impulses: what turning one gradient round does to the updates after it.
    """

    traces: pd.DataFrame
    responses: pd.DataFrame
    impulses: pd.DataFrame

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def joined(parts: list[Traces]) -> Traces:
    """The rows of all parts; tables without rows if there is none."""
    found = {}
    for name, own in COLUMNS.items():
        tables = [part.tables()[name] for part in parts]
        empty = pd.DataFrame(columns=list(own))
        found[name] = pd.concat(tables, ignore_index=True) if tables else empty
    return Traces(**found)


def no_traces() -> Traces:
    """Those of a panel that traces nothing."""
    return joined([])


def save_traces(traces: Traces, folder: Path) -> None:
    """Write `traces.parquet`, `responses.parquet` and `impulses.parquet`."""
    for name, table in traces.tables().items():
        save_parquet(folder / f"{name}.parquet", table, compression="zstd")


def load_traces(folder: Path) -> Traces:
    """Read what `save_traces` wrote.

    Raises:
        SuiteError: a file is missing, damaged, or lacks a column.
    """
    return Traces(
        **{
            name: load_result(folder / f"{name}.parquet", columns)
            for name, columns in COLUMNS.items()
        }
    )
