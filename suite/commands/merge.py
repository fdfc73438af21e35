"""merge: experiments of another results folder, put beside those of this one."""

from __future__ import annotations

from pathlib import Path

from l2l.suite.files.links import refuse_links
from l2l.suite.files.places import EXPERIMENT_INFOS
from l2l.suite.files.storage import guarded
from l2l.suite.report.results import load_results, store_results
from l2l.suite.report.write import Report, write_report
from l2l.suite.run.folder import reporting


def merge(other: Path, root: Path) -> Report:
    """Take over the tables and pictures of `other`, and write the report of both.

    Experiments that both folders have are those of `other`. Cells stay where they are.

    Raises:
        SuiteError: what a folder holds cannot be read.
        StorageError: `root` cannot be written to.
    """
    refuse_links(other)
    refuse_links(root)
    found = load_results(other)
    with guarded(root), reporting(root):
        if (root / EXPERIMENT_INFOS).exists():
            found = found.beside(load_results(root))
        store_results(root, found)
        return write_report(root)
