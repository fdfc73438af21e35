"""What of a plan is done, running, failed and missing, and how long the rest may take."""

from __future__ import annotations

import shutil
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import kinds
from l2l.suite.files.listing import stats_below
from l2l.suite.files.places import CELLS, RECORD
from l2l.suite.files.progress import read_progress
from l2l.suite.plan.cells import Cell
from l2l.suite.plan.plan import Plan
from l2l.suite.run.locks import owner_of
from l2l.suite.run.records import failure_of, read_record, record_of, state_of, unfinished

STATES = ("done", "running", "failed", "missing")

# Seconds for a unit of work: by kind and problem, and by kind alone, where any cell is done.
Speeds = Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class CellStatus:
    """Where one cell stands.

    Args:
        cell: the name of its folder.
        kind: what it does.
        state: ``done``, ``running``, ``failed`` or ``missing``.
        seconds: spent on it so far.
        seconds_left: estimated; None if no cell of its kind is done.
        note: how far a running one is, or why one failed.
    """

    cell: str
    kind: str
    state: str
    seconds: float
    seconds_left: float | None
    note: str = ""


@dataclass(frozen=True)
class Status:
    """Where a plan stands.

    Args:
        cells: each one.
        counts: cells by state.
        seconds_left: the sum of the estimates that there are, for one job.
        unknown: cells that are not done and have no estimate.
        bytes: of all files in the results folder.
        bytes_free: on its disk.
    """

    cells: tuple[CellStatus, ...]
    counts: Mapping[str, int]
    seconds_left: float
    unknown: int
    bytes: int
    bytes_free: int


def status_of(plan: Plan, root: Path) -> Status:
    """The status of a plan in the results folder `root`."""
    speeds = speeds_of(root)
    # A deleted cell that nothing needs any more is not missing.
    needed = {cell.key for cell in unfinished(plan.results, root)}
    shown = [cell for cell in plan.cells if cell.key in needed or record_of(cell, root)]
    found = tuple(_cell_status(cell, root, speeds) for cell in shown)
    estimates = [each.seconds_left for each in found]
    return Status(
        cells=found,
        counts={state: sum(each.state == state for each in found) for state in STATES},
        seconds_left=round(sum(each for each in estimates if each is not None), 1),
        unknown=estimates.count(None),
        bytes=sum(each.st_size for each in stats_below(root)),
        bytes_free=shutil.disk_usage(root).free,
    )


def work_of(kind: str, config: Mapping[str, Any]) -> float:
    """How much a cell has to do, in a unit of its kind."""
    return kinds.cls(kind)().work(config)


def _cell_status(cell: Cell, root: Path, speeds: Speeds) -> CellStatus:
    state = state_of(cell, root)
    if state == "done":
        seconds = (record_of(cell, root) or {}).get("seconds", 0.0)
        return CellStatus(cell.label, cell.kind, state, seconds, 0.0)
    step = read_progress(cell.folder(root))
    note = failure_of(cell, root) if state == "failed" else ""
    if state == "running":
        far = f"{step.done}/{step.total} {step.note}".strip() if step.total else ""
        note = "; ".join(filter(None, (far, str(owner_of(cell.label, root)))))
    left = seconds_for(cell, speeds)
    if step.done and step.total:
        left = step.seconds / step.done * (step.total - step.done)
    return CellStatus(cell.label, cell.kind, state, step.seconds, left, note)


def seconds_for(cell: Cell, speeds: Speeds) -> float | None:
    """How long a whole cell may take; None if no cell of its kind is done."""
    for key in ((cell.kind, _problem(cell.config)), (cell.kind, "")):
        if key in speeds:
            return speeds[key] * work_of(cell.kind, cell.config)
    return None


def speeds_of(root: Path) -> Speeds:
    """Seconds for a unit of work, of the finished cells in the results folder `root`."""
    samples = defaultdict(list)
    for path in (root / CELLS).glob(f"*/{RECORD}"):
        record = read_record(path)
        if record is None:
            continue
        kind, config = record["kind"], record["config"]
        try:
            speed = record["seconds"] / work_of(kind, config)
        except (SuiteError, ValueError, KeyError, TypeError, ArithmeticError):
            # Damaged, or of an unknown kind, so of no use for an estimate.
            continue
        samples[kind, _problem(config)].append(speed)
        samples[kind, ""].append(speed)
    return {key: statistics.median(values) for key, values in samples.items()}


def _problem(config: Mapping[str, Any]) -> str:
    try:
        return str(config["problem"]["spec"]["name"])
    except (KeyError, TypeError):
        return ""
