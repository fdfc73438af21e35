"""From a results folder's finished cells to everything in it that people and other tools read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.cells import CELLS
from suite.collect import (
    collect_cells,
    collect_curves,
    collect_pictures,
    collect_traces,
    experiment_infos,
)
from suite.files import write_text_atomic
from suite.plan import Plan
from suite.provenance import PROVENANCE, gather_provenance, load_provenance
from suite.report import Report, write_report, write_results
from suite.request import REQUEST, Request, plan_request, saved_request
from suite.storage import guarded
from suite.store import check_version

SOURCES = "cells.csv"


def publish(
    plan: Plan, request: Request, root: Path, provenance: Mapping[str, Any] | None = None
) -> Report:
    """Write tables, figures and report of what is finished of a plan.

    Args:
        plan: whose cells are looked at.
        request: that it was made from.
        root: the results folder.
        provenance: of the results, if not this process computed them.

    Raises:
        StorageError: the folder cannot be written to.
    """
    with guarded(root):
        write_text_atomic(root / SOURCES, collect_cells(plan, root).to_csv(index=False))
        seeds = {each.name: each.seed for each in plan.experiments}
        curves = collect_curves(plan, root)
        return write_results(
            root,
            experiment_infos(plan, request.profile),
            curves,
            provenance or gather_provenance(shlex.split(request.command()), seeds),
            collect_pictures(plan, root, curves),
            collect_traces(plan, root),
        )


def publish_again(root: Path) -> Report:
    """The same, of what was last run into the folder; or from its tables alone if it has no cells.

    Raises:
        SuiteError: there is neither, or the folder cannot be written to.
    """
    if not (root / CELLS / REQUEST).exists():
        return write_report(root)
    check_version(root)
    request = saved_request(root)
    recorded = load_provenance(root / PROVENANCE)
    return publish(plan_request(request), request, root, recorded)
