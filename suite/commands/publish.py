"""From a results folder's finished cells to everything in it that people and other tools read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from l2l.suite.commands.request import Request, plan_request, planned_cells, saved_request
from l2l.suite.core.errors import SuiteError
from l2l.suite.files.places import CELLS, EXPERIMENT_INFOS, MERGED, PROVENANCE, REQUEST, SOURCES
from l2l.suite.files.provenance import gather_provenance, load_provenance
from l2l.suite.plan.definitions import ExperimentInfo, load_experiments
from l2l.suite.plan.plan import Plan
from l2l.suite.report.collect import collect_pictures, collect_tables, experiment_infos
from l2l.suite.report.results import Results, load_results, load_sources, store_results
from l2l.suite.report.sources import collect_cells
from l2l.suite.report.write import Report, write_report
from l2l.suite.run.folder import check_folder, check_version, reporting
from l2l.suite.run.locks import at_work
from l2l.suite.run.records import record_of

log = logging.getLogger("suite")


def publish(
    plan: Plan, request: Request, root: Path, provenance: Mapping[str, Any] | None = None
) -> Report:
    """Write tables, figures and report of what is finished of a plan.

    Experiments that the folder has from earlier runs stay beside those of the plan.

    Args:
        plan: whose cells are looked at.
        request: that it was made from.
        root: the results folder.
        provenance: of the results, if not this process computed them.

    Raises:
        StorageError: the folder cannot be written to.
    """
    with reporting(root):
        seeds = {each.name: each.seed for each in plan.experiments}
        experiments = tuple(experiment_infos(plan, request.profile, root))
        tables = collect_tables(plan, root, experiments)
        found = Results(
            experiments,
            tables,
            provenance or gather_provenance(request.command(), seeds),
            collect_pictures(plan, root, experiments, tables),
            collect_cells(plan, root),
        )
        others = results_beside(root, [each.name for each in experiments])
        store_results(root, found.beside(others) if others else found)
        (root / CELLS / MERGED).unlink(missing_ok=True)
        return write_report(root)


def results_beside(root: Path, own: Iterable[str]) -> Results | None:
    """The folder's results, if it has some of other experiments than one's `own`.

    Raises:
        SuiteError: they cannot be read, so storing others would lose them.
    """
    if not (root / EXPERIMENT_INFOS).exists():
        return None
    try:
        known = {each.name for each in load_experiments(root / EXPERIMENT_INFOS)}
        return load_results(root) if known - {*own} else None
    except SuiteError as error:
        raise SuiteError(
            f"the folder's earlier results would be lost ({error}): restore the file, delete "
            f"{EXPERIMENT_INFOS} to do without them, or choose another --results"
        ) from error


def publish_again(root: Path, plugins: Sequence[str] = ()) -> Report:
    """The same, of what was last run into the folder; from its tables alone if its cells are gone.

    So it is if the cells could not be found, because settings, data or code are not those of the
    run.

    Args:
        root: the results folder.
        plugins: those that it was run with; see `saved_request`.

    Raises:
        SuiteError: there is neither, a plugin is not named, or the folder cannot be written to.
    """
    check_folder(root)
    if not (root / CELLS / REQUEST).exists():
        return _publish_tables(root)
    check_version(root)
    request = saved_request(root, plugins)
    recorded = load_provenance(root / PROVENANCE)
    with at_work(root):
        return _publish_cells(request, root, recorded)


def _publish_cells(request: Request, root: Path, recorded: Mapping[str, Any]) -> Report:
    """The report of the cells, or of the tables if they are not those of the request any more."""
    published = (root / EXPERIMENT_INFOS).exists()
    try:
        plan = plan_request(request, probing=False)
    except SuiteError as error:
        if not published:
            raise
        return _publish_tables(root, f"what was run cannot be planned again here: {error}")
    if published:
        infos, stored = experiment_infos(plan, request.profile), _stored_infos(root)
        if panel := _changed_panel(infos, stored):
            return _publish_tables(root, f"data or code of {panel} are not those of the run")
        if panel := _edited_panel(plan, root):
            return _publish_tables(root, f"settings or code of {panel} are not those of the run")
        if not any(record_of(cell, root) for cell in plan.results):
            return _publish_tables(root)
        if (root / CELLS / MERGED).exists():
            return _publish_tables(root, "results of another folder were merged in")
    return publish(plan, request, root, recorded)


def _publish_tables(root: Path, reason: str = "") -> Report:
    """Write figures and report from the folder's tables, and say why, if the cells are there."""
    if reason:
        log.warning(
            "the report is made from the tables of this folder and not from its cells: %s", reason
        )
    load_experiments(root / EXPERIMENT_INFOS)  # before anything is written where there are none
    with reporting(root):
        return write_report(root)


def _stored_infos(root: Path) -> dict[str, ExperimentInfo]:
    """The folder's experiments by name; none if they cannot be read."""
    try:
        return {each.name: each for each in load_experiments(root / EXPERIMENT_INFOS)}
    except SuiteError:
        return {}


def _changed_panel(infos: Iterable[ExperimentInfo], stored: Mapping[str, ExperimentInfo]) -> str:
    """The first panel that had other data or code when it was run with the same settings."""
    for info in infos:
        known = stored.get(info.name)
        if known is None or info.settings not in known.every_settings():
            continue
        for panel in info.panels:
            before = known.panel(panel.name) or panel
            same = all(before.setup.get(key, value) == value for key, value in panel.setup.items())
            if not same or before.notice != panel.notice:
                return f"{info.name}, panel {panel.name!r},"
    return ""


def _edited_panel(plan: Plan, root: Path) -> str:
    """The first panel with a result that the last run asked for, and this plan does not."""
    try:
        sources, planned = load_sources(root / SOURCES), planned_cells(root)
    except SuiteError:
        return ""
    names = [each.name for each in plan.experiments]
    gone = planned - {cell.label for cell in plan.cells}
    done = sources[sources["finished"].notna() & sources["experiment"].isin(names)]
    for row in done[done["cell"].isin(gone)].itertuples():
        return f"{row.experiment}, panel {row.panel!r},"
    return ""
