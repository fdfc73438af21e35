"""From finished cells to the tidy table of curves and what the report must know beside it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pandas as pd
import yaml

from suite.cells import Cell
from suite.config import Claim, Experiment, Panel
from suite.curves import COLUMNS, RUN_COLUMNS
from suite.definitions import ClaimInfo, ExperimentInfo, PanelInfo, PaperPanel
from suite.errors import SuiteError
from suite.parquet_file import load_parquet
from suite.plan import Curve, Plan
from suite.runners import CURVES
from suite.store import record_of


def collect_curves(plan: Plan, root: Path) -> pd.DataFrame:
    """One row an experiment, panel, optimizer, instance and step of what is finished.

    Columns: experiment, panel, problem, optimizer, learning_rate (NaN where none), instance, step,
    loss (infinite from where a run diverged).
    """
    tables = [_curve(curve, root) for curve in plan.curves if record_of(curve.cell, root)]
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def collect_cells(plan: Plan, root: Path) -> pd.DataFrame:
    """Which cells each curve comes from, so that every number leads to its configuration.

    Columns: experiment, panel, optimizer, cell, kind, seconds, finished.
    """
    rows = []
    for curve in plan.curves:
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
            panels=tuple(
                _panel_info(name, panel, plan.notices.get((each.name, name), ""))
                for name, panel in each.panels.items()
            ),
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
    path = curve.cell.folder(root) / CURVES
    config = curve.cell.config
    rows = config["instances"] * (config["steps"] + 1)
    try:
        table = load_parquet(path, RUN_COLUMNS, rows)
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path} cannot be read ({error}): run the experiment again") from error
    return table.assign(
        experiment=curve.experiment,
        panel=curve.panel,
        problem=config["problem"]["spec"]["name"],
        optimizer=curve.optimizer,
    )


def _upstream(cell: Cell) -> list[Cell]:
    found = []
    for each in cell.inputs:
        found += [each, *_upstream(each)]
    return found


def _panel_info(name: str, panel: Panel, notice: str) -> PanelInfo:
    paper = PaperPanel(panel.paper.figure, panel.paper.panel) if panel.paper else None
    return PanelInfo(
        name=name,
        title=panel.title,
        steps=panel.steps,
        optimizers=tuple(panel.optimizers),
        first_shown=panel.first_shown,
        paper=paper,
        notice=notice,
    )


def _claim_info(id_: str, claim: Claim) -> ClaimInfo:
    return ClaimInfo(id_, claim.text, claim.test, claim.options)
