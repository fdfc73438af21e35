"""merge: what another results folder has, put beside what this one has."""

from __future__ import annotations

from pathlib import Path

from l2l.suite.files.json import save_json
from l2l.suite.files.places import CELLS, EXPERIMENT_INFOS, MERGED
from l2l.suite.report.agreeing import united
from l2l.suite.report.results import load_results, store_results
from l2l.suite.report.write import Report, write_report
from l2l.suite.run.folder import check_folder, reporting


def merge(other: Path, root: Path) -> Report:
    """Take over the tables and pictures of `other`, and write the report of both.

    Of an experiment that both folders have, the optimizers of both are kept; what both ran is
    `other`'s. Cells stay where they are.

    Raises:
        SuiteError: what a folder holds cannot be read, or panels of one name in one experiment
            differ in problem, data, updates, seed or budgets.
        StorageError: `root` cannot be written to.
    """
    check_folder(other, "OTHER")
    check_folder(root, there=False)
    found = load_results(other)
    with reporting(root):
        if (root / EXPERIMENT_INFOS).exists():
            found = united(load_results(root), found)
        if (root / CELLS).is_dir():
            save_json(root / CELLS / MERGED, other.name)
        store_results(root, found)
        return write_report(root)
