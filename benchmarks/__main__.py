"""`make bench`: one table, measured in one run, printed and kept with the reference results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch

from benchmarks.window import AUTOGRAD_BYTES, WAYS, WINDOW
from suite.formatting import number
from suite.table_formats import Cell, Table, markdown, save_table

FOLDER = Path(__file__).parents[1] / "results" / "reference" / "benchmarks"
# Hidden units of the MNIST network, by which its number of parameters is about 10^3 … 10^6.
UNITS = (1, 20, 126, 1258)
SECONDS = 4.0


def windows() -> pd.DataFrame:
    """Every way on every network, each in a process of its own, one after the other."""
    rows = []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for units in UNITS:
        parameters = 795 * units + 10
        for way in WAYS:
            row: dict[str, object] = {"parameters": parameters, "way": way}
            graph = way != "fused" and parameters * WINDOW * AUTOGRAD_BYTES
            if graph < 0.6 * memory:
                row |= _in_a_process(way, units)
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    fused = table[table.way == "fused"].set_index("parameters").training_ms
    table["fused_is_faster_by"] = table.training_ms / table.parameters.map(fused)
    return table


def _in_a_process(way: str, units: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.window", way, str(units), str(SECONDS)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure, print, write CSV, Markdown and LaTeX."""
    data = windows()
    texts = data.astype(object).map(lambda x: number(x) if isinstance(x, float) else str(x))
    table = Table(
        "window",
        f"A window of {WINDOW} steps, per step, on {torch.get_num_threads()} threads",
        tuple(data.columns),
        tuple(tuple(map(Cell, row)) for row in texts.itertuples(index=False)),
        data,
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_table(table, FOLDER)
    print(f"{markdown(table)}\n{FOLDER}")


if __name__ == "__main__":
    main()
