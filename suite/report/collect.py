"""From finished cells to the tables of a results folder, and what the report must know beside."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from l2l.optimizers.learned.checkpoint import about_optimizer
from l2l.optimizers.learned.pretrained import find_checkpoint
from l2l.optimizers.learned.rated import Rated
from l2l.suite.core.convert import plain
from l2l.suite.core.digests import digest
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers, problems
from l2l.suite.core.types import Problem
from l2l.suite.files.places import CURVES, HELD_OUT, NOTICE, PICTURES
from l2l.suite.files.yaml import dump_yaml
from l2l.suite.inner.pictures import Pictures, load_pictures
from l2l.suite.inner.trace_tables import joined, load_traces
from l2l.suite.plan.cells import SHORT, Cell
from l2l.suite.plan.config import Experiment, Panel
from l2l.suite.plan.definitions import ClaimInfo, ExperimentInfo, PanelInfo
from l2l.suite.plan.plan import Plan
from l2l.suite.report.condense import condense
from l2l.suite.report.result_tables import Tables, join_tables
from l2l.suite.report.runs import HELD_OUT_COLUMNS, load_runs
from l2l.suite.report.scores.losses import Recorded, last_tenth
from l2l.suite.report.shown_pictures import shown_pictures
from l2l.suite.run.records import record_of


def collect_tables(plan: Plan, root: Path, experiments: Sequence[ExperimentInfo]) -> Tables:
    """What is kept of the plan's finished cells.

    Args:
        plan: whose finished cells are looked at.
        root: the results folder.
        experiments: from `experiment_infos`.
    """
    return join_tables(
        [
            _panel_tables(experiment, panel, plan, root)
            for experiment in experiments
            for panel in experiment.panels
        ]
    )


def collect_pictures(
    plan: Plan, root: Path, experiments: Sequence[ExperimentInfo], tables: Tables
) -> Pictures:
    """What is shown of each panel's first optimizer and of the best of its others, by final loss.

    Args:
        plan: whose finished cells are looked at.
        root: the results folder.
        experiments: from `experiment_infos`.
        tables: from `collect_tables`.
    """
    names = ["experiment", "panel", "optimizer", "score"]
    means = tables.scores.groupby(names, observed=True)["value"].mean()
    pictures: Pictures = {}
    for experiment in experiments:
        for panel in experiment.panels:
            place = (experiment.name, panel.name)
            end = last_tenth(panel.steps).name
            kept = [
                curve
                for curve in plan.curves
                if (curve.experiment, curve.panel) == place
                and record_of(curve.cell, root)
                and (curve.cell.folder(root) / PICTURES).exists()
            ]
            ends = {
                c.optimizer: float(means.get((*place, c.optimizer, end), math.inf)) for c in kept
            }
            best = sorted(kept[1:], key=lambda c: ends[c.optimizer])
            found = {
                (each.optimizer, *key): picture
                for each in (*kept[:1], *best[:1])
                for key, picture in load_pictures(each.cell.folder(root) / PICTURES).items()
            }
            shown = shown_pictures(panel, found)
            pictures.update({(*place, *key): picture for key, picture in shown.items()})
    return pictures


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
            claims=tuple(ClaimInfo(id_, **vars(claim)) for id_, claim in each.claims.items()),
            source=each.source,
            seed=each.seed,
            profile=profile,
            settings=settings_of(each),
            benchmark=each.benchmark,
            left_out=_left_out(plan, each),
        )
        for each in plan.experiments
    ]


def _left_out(plan: Plan, experiment: Experiment) -> dict[str, str]:
    """Why optimizers are left out, by label."""
    found = plan.left_out.items()
    missing = {label: reason for (name, _, label), reason in found if name == experiment.name}
    return {**missing, **experiment.omitted}


def settings_of(experiment: Experiment) -> str:
    """The experiment as YAML, with profile, ``--set`` and defaults in place."""
    data = plain(experiment)
    for claim in data["claims"].values():
        claim.update(claim.pop("options"))
    return dump_yaml(data)


def _panel_tables(experiment: ExperimentInfo, panel: PanelInfo, plan: Plan, root: Path) -> Tables:
    curves, traces = (
        [
            each
            for each in some
            if (each.experiment, each.panel) == (experiment.name, panel.name)
            and record_of(each.cell, root)
        ]
        for some in (plan.curves, plan.traces)
    )
    recorded = Recorded(
        panel,
        {
            each.optimizer: load_runs(each.cell.folder(root) / CURVES, _rows(each.cell))
            for each in curves
        },
        joined([load_traces(each.cell.folder(root)) for each in traces]),
        {
            each.optimizer: load_runs(path, _rows(each.cell), HELD_OUT_COLUMNS)
            for each in curves
            if (path := each.cell.folder(root) / HELD_OUT).exists()
        },
    )
    problem = curves[0].cell.config["problem"]["spec"]["name"] if curves else ""
    return condense(experiment, recorded, problem)


def _rows(cell: Cell) -> int:
    """How many losses an evaluation has, one for each instance and step."""
    return int(cell.config["instances"] * (cell.config["steps"] + 1))


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
    cells: dict[str, list[Cell]] = {}
    for curve in plan.curves:
        own = curve.experiment == experiment.name
        if own and curve.optimizer in experiment.every_panel()[curve.panel].optimizers:
            cells.setdefault(curve.panel, []).append(curve.cell)
    return tuple(
        PanelInfo(
            name=name,
            title=panel.title,
            steps=panel.steps,
            optimizers=tuple(panel.optimizers),
            first_shown=panel.first_shown,
            paper=panel.paper,
            notice=plan.notices.get((experiment.name, name), ""),
            learned=tuple(_trained_on(experiment, panel)),
            untrained=untrained.get((experiment.name, name), {}),
            in_distribution=_in_distribution(experiment, panel),
            long={label: times * panel.steps for label, times in panel.long.items()},
            setup=_setup(cells[name]) if name in cells else {},
            **in_grids.get(name, {}),
        )
        for name, panel in _panels_run(plan, experiment).items()
    )


def _panels_run(plan: Plan, experiment: Experiment) -> dict[str, Panel]:
    """The panels without the optimizers that the plan leaves out."""

    def run(labels: Mapping[str, Any], panel: str) -> dict[str, Any]:
        out = {label for (*place, label) in plan.left_out if place == [experiment.name, panel]}
        return {label: each for label, each in labels.items() if label not in out}

    return {
        name: replace(panel, optimizers=run(panel.optimizers, name), long=run(panel.long, name))
        for name, panel in experiment.every_panel().items()
    }


def _setup(cells: Sequence[Cell]) -> dict[str, int | str]:
    """What the rows of a panel have in common; see `PanelInfo.setup`."""
    config = cells[0].config
    tuned = [each for cell in cells for each in cell.inputs if each.kind == "tune"]
    setup = {**_said(config["problem"], "problem"), "updates": config["steps"]}
    setup |= {"test instances": config["instances"], "seed": config["seed"]}
    if tuned:
        sweep = tuned[0].config
        setup |= {**_said(sweep["problem"], "tuning problem"), "tuning updates": sweep["steps"]}
        setup["tuning instances"] = sweep["instances"]
    return setup


def _said(problem: Mapping[str, Any], name: str) -> dict[str, int | str]:
    """A problem's settings, and short digests of its code and of the data that it found."""
    found = {key: problem[key] for key in ("files", "data") if key in problem}
    return {
        name: json.dumps(problem["spec"], sort_keys=True),
        f"{name}'s code": problem["code"][:SHORT],
        f"{name}'s data": digest(found)[:SHORT] if found else "none",
    }


def _in_distribution(experiment: Experiment, panel: Panel) -> tuple[str, ...]:
    """The learned optimizers of a panel that were trained on its problem, on whatever split."""
    specs = filter(None, (panel.problem, panel.tuning_problem))
    own = [problems.make(spec) for spec in specs]
    trained_on = _trained_on(experiment, panel)
    return tuple(label for label, found in trained_on.items() if any(each in own for each in found))


def _trained_on(experiment: Experiment, panel: Panel) -> dict[str, list[Problem]]:
    """The learned optimizers of a panel, and the problems of their training that are known."""
    found: dict[str, list[Problem]] = {}
    for label, spec in panel.optimizers.items():
        if "trained" in spec:
            training = experiment.training[spec["trained"]]
            # A shipped optimizer does not need the data of what its training mixed in.
            mixed = [] if training.use == "shipped" else [each.also for each in training.phases]
            specs = [training.problem, *itertools.chain(*mixed)]
            found[label] = [problems.make(each) for each in specs]
            if training.start is not None:
                found[label] += _told(find_checkpoint(training.start))
        elif optimizers.cls(spec["name"]) is Rated:
            found[label] = _told(find_checkpoint(spec.get("checkpoint", Rated.checkpoint)))
    return found


def _told(checkpoint: Path) -> list[Problem]:
    """The problem that a checkpoint was trained on, if it says so."""
    told = about_optimizer(checkpoint).get("problem")
    try:
        return [problems.make(told)] if isinstance(told, dict) else []
    except SuiteError:
        # One of a plugin that is not here: no panel is on it.
        return []
