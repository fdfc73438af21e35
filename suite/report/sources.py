"""Which cells each curve comes from, and what they took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.checkpoint import about_optimizer
from l2l.optimizers.learned.pretrained import find_checkpoint
from l2l.suite.core.registry import kinds, problems
from l2l.suite.core.seeds import Rng
from l2l.suite.files.json import read_json
from l2l.suite.files.places import CHECKPOINTS, TRAINING_SECONDS
from l2l.suite.inner.memory import state_bytes
from l2l.suite.inner.objective import param_spec
from l2l.suite.plan.cells import Cell
from l2l.suite.plan.plan import Plan
from l2l.suite.plan.resolved import optimizer_at
from l2l.suite.report.results import SOURCE_COLUMNS
from l2l.suite.run.records import record_of

# What cells.csv says of a learned optimizer that comes along, instead of its training's cells.
SHIPPED = "shipped"


def collect_cells(plan: Plan, root: Path) -> pd.DataFrame:
    """Which cells each curve and trace comes from, so that every number leads to its configuration.

    It has the columns `suite.report.results.SOURCE_COLUMNS`.
    """
    benchmarks = {each.name for each in plan.experiments if each.benchmark}
    rows = []
    for curve in (*plan.curves, *plan.traces):
        own = curve.cell
        owner = {name: getattr(curve, name) for name in ("experiment", "panel", "optimizer")}
        state = {}
        if curve.experiment in benchmarks and "optimizer" in own.config:
            state = {"state_bytes": _state_bytes(own)}
        rows.append({**owner, **_told(own, root), **state})
        rows += [{**owner, **_told(cell, root)} for cell in _upstream(own)]
        if (name := _checkpoint(own)) is not None:
            rows.append({**owner, **shipped_row(name)})
    return pd.DataFrame(rows, columns=SOURCE_COLUMNS)


def _upstream(cell: Cell) -> list[Cell]:
    """What it reads, and what that reads, each once."""
    found: dict[str, Cell] = {}

    def visit(of: Cell) -> None:
        for each in of.inputs:
            if each.key not in found:
                found[each.key] = each
                visit(each)

    visit(cell)
    return list(found.values())


def _told(cell: Cell, root: Path) -> dict[str, Any]:
    """What a cell's row says of it."""
    row = {"cell": cell.label, "kind": cell.kind}
    record = record_of(cell, root)
    if record is None:
        return row
    told = {key: record.get(key) for key in ("seconds", "finished", "commit", "machine")}
    return {**row, **told, **kinds.cls(cell.kind)().done(cell.config, cell.folder(root))}


def _checkpoint(cell: Cell) -> str | None:
    """The name of the checkpoint that comes along, of an evaluation that uses one."""
    if "shipped" in cell.config:
        return str(cell.config["shipped"]["checkpoint"])
    spec = cell.config.get("optimizer", {}).get("spec", {})
    name = str(spec.get("checkpoint", ""))
    is_shipped = spec.get("name") == "pretrained" and find_checkpoint(name).parent == CHECKPOINTS
    return name if is_shipped else None


def shipped_row(name: str) -> dict[str, Any]:
    """What is known of a checkpoint's training: by its file, or how long it took by a table."""
    about = about_optimizer(CHECKPOINTS / f"{name}.safetensors")
    known = read_json(TRAINING_SECONDS) or {}
    told = {"runs": about.get("runs"), "seconds": about.get("seconds", known.get(name))}
    return {
        "cell": name,
        "kind": SHIPPED,
        **{key: x for key, x in told.items() if isinstance(x, int | float)},
    }


def _state_bytes(cell: Cell) -> float:
    """Bytes of the optimizer's state for each parameter of the problem."""
    spec = param_spec(problems.make(cell.config["problem"]["spec"]))
    # Neither the rate nor the weights matter.
    made = optimizer_at(cell.config["optimizer"], 1.0)
    if isinstance(made, Learned):
        made = made.with_weights(made.initial_weights(Rng(0, "phi")))
    return state_bytes(made, spec) / spec.size
