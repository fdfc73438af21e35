"""From finished cells to the tidy table of curves and what the report must know beside it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from suite.cells import Cell
from suite.config import Claim, Experiment
from suite.curves import COLUMNS, RUN_COLUMNS, no_curves
from suite.definitions import ClaimInfo, ExperimentInfo, PanelInfo
from suite.parquet_file import load_result
from suite.pictures import Pictures, load_pictures
from suite.plan import Curve, Plan
from suite.results import SOURCE_COLUMNS
from suite.runners import CURVES, NOTICE, PICTURES
from suite.store import record_of
from suite.trace_tables import OWNER, Traces, joined, read_tables
from suite.yaml_file import dump_yaml


def collect_curves(plan: Plan, root: Path) -> pd.DataFrame:
    """One row an experiment, panel, optimizer, instance and step of what is finished.

    Columns: experiment, panel, problem, optimizer, learning_rate (NaN where none), instance, step,
    loss (infinite from where a run diverged).
    """
    tables = [_curve(curve, root) for curve in plan.curves if record_of(curve.cell, root)]
    if not tables:
        return no_curves()
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def collect_pictures(plan: Plan, root: Path, curves: pd.DataFrame) -> Pictures:
    """Pictures of each panel's first optimizer and of the best of its others, by final loss.

    Args:
        plan: whose finished cells are looked at.
        root: the results folder.
        curves: from `collect_curves`.
    """
    pictures: Pictures = {}
    for experiment in plan.experiments:
        for panel in experiment.every_panel():
            own = [c for c in plan.curves if (c.experiment, c.panel) == (experiment.name, panel)]
            kept = [c for c in own if (c.cell.folder(root) / PICTURES).exists()]
            if not kept:
                continue
            rows = curves[(curves["experiment"] == experiment.name) & (curves["panel"] == panel)]
            ends = rows[rows["step"] == rows["step"].max()].groupby("optimizer")["loss"].mean()
            first = kept[0]
            best = sorted(kept[1:], key=lambda c: float(ends.get(c.optimizer, math.inf)))[:1]
            for each in (first, *best):
                found = load_pictures(each.cell.folder(root) / PICTURES)
                place = (each.experiment, each.panel, each.optimizer)
                pictures.update({(*place, *key): picture for key, picture in found.items()})
    return pictures


def collect_traces(plan: Plan, root: Path) -> Traces:
    """The traces of what is finished."""
    found = []
    for each in plan.traces:
        if record_of(each.cell, root):
            tables = read_tables(each.cell.folder(root))
            found.append(tables.owned(each.experiment, each.panel))
    return joined(found, OWNER)


def collect_cells(plan: Plan, root: Path) -> pd.DataFrame:
    """Which cells each curve and trace comes from, so that every number leads to its configuration.

    It has the columns `suite.results.SOURCE_COLUMNS`.
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
                    "commit": record.get("commit"),
                }
            )
    return pd.DataFrame(rows, columns=SOURCE_COLUMNS)


def experiment_infos(plan: Plan, profile: str, root: Path | None = None) -> list[ExperimentInfo]:
    """The experiments as the report wants them.

    Args:
        plan: that they are of.
        profile: the sizes that they were planned with.
        root: the results folder, whose finished cells may have something to tell.
    """
    untrained = {} if root is None else _untrained(plan, root)
    return [
        ExperimentInfo(
            name=each.name,
            title=each.title,
            panels=_panel_infos(each, plan, untrained),
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
    return dump_yaml(data)


def _curve(curve: Curve, root: Path) -> pd.DataFrame:
    path = curve.cell.folder(root) / CURVES
    config = curve.cell.config
    rows = config["instances"] * (config["steps"] + 1)
    return load_result(path, RUN_COLUMNS, rows).assign(
        experiment=curve.experiment,
        panel=curve.panel,
        problem=config["problem"]["spec"]["name"],
        optimizer=curve.optimizer,
    )


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


def _untrained(plan: Plan, root: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Why learned optimizers are as they were before training, by (experiment, panel) and label."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for curve in plan.curves:
        path = curve.cell.folder(root) / NOTICE
        if path.exists() and record_of(curve.cell, root):
            reason = path.read_text(encoding="utf-8")
            found.setdefault((curve.experiment, curve.panel), {})[curve.optimizer] = reason
    return found


def _panel_infos(
    experiment: Experiment, plan: Plan, untrained: Mapping[tuple[str, str], Mapping[str, str]]
) -> tuple[PanelInfo, ...]:
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
            untrained=untrained.get((experiment.name, name), {}),
            **in_grids.get(name, {}),
        )
        for name, panel in experiment.every_panel().items()
    )


def _claim_info(id_: str, claim: Claim) -> ClaimInfo:
    return ClaimInfo(id_, claim.text, claim.test, claim.options)
