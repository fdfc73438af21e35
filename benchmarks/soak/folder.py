"""The tiny experiments of the fault tests, and what must hold of a results folder after each."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from l2l.suite.core.digests import file_digest
from l2l.suite.core.registry import kinds
from l2l.suite.files.places import CELL_LOG, CELLS, RECORD, SOURCES
from l2l.suite.report.result_tables import COLUMNS

PHASES = ("plan", *kinds, "collect", "report")

TINY = """
title: Tiny {name}
sizes: {{test_instances: 4, tuning_instances: 2}}
training:
  t:
    problem: {{name: quadratic, dim: 3}}
    optimizer: {{name: lstm, preprocessing: none, hidden: 4}}
    phases: [{{runs: 16, horizon: 10, estimator: {{name: truncated, window: 5}},
               rate: 0.01, batch: 2}}]
    {search}
    validate_every: 2
    validation_instances: 4
panels:
  quadratics:
    title: Quadratics
    problem: {{name: quadratic, dim: {dim}}}
    steps: 10
    optimizers: {{LSTM: {{trained: t}}, SGD: {{name: sgd}}, ADAM: {{name: adam, lr: 0.1}}}}
    trace: {{along: LSTM, coordinates: 2, probed: 1, points: 21, lags: 5, response_steps: 5}}
claims:
  {name}-1: {{text: "SGD is best", test: ends_below_all, panel: quadratics, optimizer: SGD}}
"""

# Written last by a run; equal for equal results, but for when and by what the cells of cells.csv
# were computed: nothing is known of a damaged one that nobody needs any more.
TABLES = (*(f"{name}.parquet" for name in COLUMNS), "final.csv", "claims.csv")
NOT_COMPARED = ("seconds", "finished", "commit")


def write_experiments(folder: Path) -> tuple[str, ...]:
    """Two experiments that share cells and have cells of every kind; their files' names."""
    names = []
    population = "population: {rates: [0.005, 0.02], candidates: 3, first_runs: 4, keep: 0.5}"
    for name, search, dim in (("one", "seeds: [1, 2]", 3), ("two", population, 4)):
        path = folder / f"{name}.yaml"
        path.write_text(TINY.format(name=name, search=search, dim=dim), encoding="utf-8")
        names.append(str(path))
    return tuple(names)


def phase_of(path: Path, root: Path) -> str | None:
    """The phase that a file of the results folder belongs to; None outside the folder."""
    try:
        parts = path.relative_to(root).parts
    except ValueError:
        return None
    if parts[:1] == (CELLS,):
        words = [part.split("-")[0] for part in parts[1:]]
        return next((word for word in words if word in kinds), "plan")
    if parts[:1] == ("logs",) or not parts:
        return "plan"
    collected = ("cells", "experiments", "provenance", *COLUMNS)
    return "collect" if parts[0].lstrip(".").startswith(collected) else "report"


def tables(root: Path) -> dict[str, object]:
    """What two runs of the same experiments must agree on."""
    found: dict[str, object] = {name: (root / name).read_bytes() for name in TABLES}
    with (root / SOURCES).open(newline="", encoding="utf-8") as file:
        rows = [
            {k: v for k, v in row.items() if k not in NOT_COMPARED} for row in csv.DictReader(file)
        ]
    return {**found, SOURCES: rows}


def finished(root: Path) -> dict[str, int]:
    """When each finished cell was finished, by the name of its folder."""
    return {path.parent.name: path.stat().st_mtime_ns for path in _records(root)}


def starts(root: Path) -> dict[str, int]:
    """How often each cell was begun, by the name of its folder."""
    logs = (root / CELLS).glob(f"*/{CELL_LOG}")
    return {path.parent.name: path.read_text(encoding="utf-8").count(" starts\n") for path in logs}


def half_written(root: Path, damaged: str = "") -> list[str]:
    """Files that are there and not whole; there must be none, however a run ended.

    The folder of a cell that was damaged on purpose is left out: it is not mended where all that
    needs it is finished.
    """
    bad = []
    for path in _records(root):
        if path.parent.name == damaged:
            continue
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        bad += [name for name in files if file_digest(path.parent / name) != files[name]]
    for path in root.glob("**/[!.]*.json"):
        if path.parent.name == damaged:
            continue
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            bad.append(str(path))
    for path in root.glob("**/[!.]*.parquet"):
        content = path.read_bytes()
        is_whole = content.startswith(b"PAR1") and content.endswith(b"PAR1")
        if path.parent.name != damaged and not is_whole:
            bad.append(str(path))
    return bad


def _records(root: Path) -> list[Path]:
    return sorted((root / CELLS).glob(f"*/{RECORD}"))
