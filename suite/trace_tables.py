"""The tidy tables of traces (Appendix B), as they lie in a cell and in the results folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from suite.parquet_file import REAL, TEXT, WHOLE, load_result, save_parquet

PLACE = {"optimizer": TEXT, "instance": WHOLE, "coordinate": WHOLE}
COLUMNS = {
    "traces": {**PLACE, "step": WHOLE, "gradient": REAL, "update": REAL},
    "responses": {**PLACE, "step": WHOLE, "gradient": REAL, "update": REAL},
    "impulses": {**PLACE, "lag": WHOLE, "effect": REAL},
}
OWNER = {"experiment": TEXT, "panel": TEXT}


@dataclass(frozen=True)
class Traces:
    """What was recorded of single coordinates along trajectories; docs/results.md has the columns.

    Args:
        traces: the gradient met at each step, and the update of each optimizer.
        responses: the update of each optimizer as a function of the gradient at a step.
        impulses: what turning one gradient round does to the updates after it.
    """

    traces: pd.DataFrame
    responses: pd.DataFrame
    impulses: pd.DataFrame

    def of(self, experiment: str, panel: str) -> Traces:
        """The rows of one panel."""
        found = {}
        for name, table in self.tables().items():
            mine = (table["experiment"] == experiment) & (table["panel"] == panel)
            found[name] = table[mine]
        return Traces(**found)

    def owned(self, experiment: str, panel: str) -> Traces:
        """The same rows, said to be of that panel."""
        return Traces(
            **{
                name: table.assign(experiment=experiment, panel=panel)[[*OWNER, *COLUMNS[name]]]
                for name, table in self.tables().items()
            }
        )

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def joined(parts: list[Traces], columns: Iterable[str] = ()) -> Traces:
    """The rows of all parts; tables with the leading `columns` and no rows if there is none."""
    found = {}
    for name, own in COLUMNS.items():
        # Those without rows have no types of their own, and would change the others'.
        tables = [table for part in parts if len(table := part.tables()[name])]
        empty = pd.DataFrame(columns=[*columns, *own])
        found[name] = pd.concat(tables, ignore_index=True) if tables else empty
    return Traces(**found)


def no_traces() -> Traces:
    """Those of experiments that trace nothing."""
    return joined([], OWNER)


def save_traces(traces: Traces, folder: Path) -> None:
    """Write `traces.parquet`, `responses.parquet` and `impulses.parquet`."""
    for name, table in traces.tables().items():
        save_parquet(folder / f"{name}.parquet", table, "zstd")


def store_traces(traces: Traces, folder: Path) -> None:
    """Write those of a results folder, which has the files only if something was traced."""
    if len(traces.traces):
        save_traces(traces, folder)
        return
    for name in COLUMNS:
        (folder / f"{name}.parquet").unlink(missing_ok=True)


def load_traces(folder: Path) -> Traces:
    """Read what `store_traces` left.

    Raises:
        SuiteError: a file is damaged, lacks a column, or is missing beside the others.
    """
    if not any((folder / f"{name}.parquet").exists() for name in COLUMNS):
        return no_traces()
    return read_tables(folder, OWNER)


def read_tables(folder: Path, owner: Mapping[str, str] | None = None) -> Traces:
    """The tables of a cell, or with the columns of `owner` those of a results folder.

    Raises:
        SuiteError: a file is missing, damaged, or lacks a column.
    """
    return Traces(
        **{
            name: load_result(folder / f"{name}.parquet", {**(owner or {}), **columns})
            for name, columns in COLUMNS.items()
        }
    )
