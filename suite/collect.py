"""From finished cells to the tidy table of curves and what the report must know beside it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from suite.cells import Cell
from suite.config import Claim, Experiment
from suite.curves import COLUMNS
from suite.definitions import ClaimInfo, ExperimentInfo, PanelInfo
from suite.plan import Curve, Plan
from suite.runners import CURVES
from suite.store import record_of
from suite.trace_tables import COLUMNS as TABLES
from suite.trace_tables import OWNER, Traces, joined


def collect_curves(plan: Plan, root: Path) -> pd.DataFrame:
    """One row an experiment, panel, optimizer, instance and step of what is finished.

    Columns: experiment, panel, problem, optimizer, learning_rate (NaN where none), instance, step,
    loss (infinite from where a run diverged).
    """
    tables = [_curve(curve, root) for curve in plan.curves if record_of(curve.cell, root)]
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def collect_traces(plan: Plan, root: Path) -> Traces:
    """The traces of what is finished."""
    found = []
    for each in plan.traces:
        if record_of(each.cell, root):
            folder = each.cell.folder(root)
            tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}
            found.append(Traces(**tables).owned(each.experiment, each.panel))
    return joined(found, OWNER)


def collect_cells(plan: Plan, root: Path) -> pd.DataFrame:
    """Which cells each curve and trace comes from, so that every number leads to its configuration.

    Columns: experiment, panel, optimizer, cell, kind, seconds, finished.
    """
    rows = []
    for curve in (*plan.curves, *plan.traces):
        for cell in (curve.cell, *_upstream(curve.cell)):
            record = record_of(cell, root) or {}
            rows.append(
                {
                    "experiment": curve.experiment,
                    "panel": curve.panel,
                    "optimizer": curve.optimizer,
                    "cell": cell.label,
                    "kind": cell.kind,
                    "seconds": record.get("seconds"),
                    "finished": record.get("finished"),
                }
            )
    return pd.DataFrame(rows)


def experiment_infos(plan: Plan, profile: str) -> list[ExperimentInfo]:
    """The experiments as the report wants them."""
    return [
        ExperimentInfo(
            name=each.name,
            title=each.title,
            panels=_panel_infos(each, plan),
            claims=tuple(_claim_info(id_, claim) for id_, claim in each.claims.items()),
            source=each.source,
            seed=each.seed,
            profile=profile,
            settings=settings_of(each),
        )
        for each in plan.experiments
    ]


def settings_of(experiment: Experiment) -> str:
    """The experiment as YAML, with profile, ``--set`` and defaults in place."""
    data = json.loads(json.dumps(dataclasses.asdict(experiment)))
    for claim in data["claims"].values():
        claim.update(claim.pop("options"))
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def _curve(curve: Curve, root: Path) -> pd.DataFrame:
    table = pd.read_parquet(curve.cell.folder(root) / CURVES)
    return table.assign(
        experiment=curve.experiment,
        panel=curve.panel,
        problem=curve.cell.config["problem"]["spec"]["name"],
        optimizer=curve.optimizer,
    )


def _upstream(cell: Cell) -> list[Cell]:
    found = []
    for each in cell.inputs:
        found += [each, *_upstream(each)]
    return found


def _panel_infos(experiment: Experiment, plan: Plan) -> tuple[PanelInfo, ...]:
    in_grids: dict[str, dict[str, Any]] = {
        panel: {"grid": name, "at": at}
        for name, grid in experiment.grids.items()
        for panel, at in grid.places(name).items()
    }
    return tuple(
        PanelInfo(
            name=name,
            title=panel.title,
            steps=panel.steps,
            optimizers=tuple(panel.optimizers),
            first_shown=panel.first_shown,
            paper=panel.paper,
            notice=plan.notices.get((experiment.name, name), ""),
            **in_grids.get(name, {}),
        )
        for name, panel in experiment.every_panel().items()
    )


def _claim_info(id_: str, claim: Claim) -> ClaimInfo:
    return ClaimInfo(id_, claim.text, claim.test, claim.options)
