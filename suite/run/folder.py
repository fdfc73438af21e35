"""The results folder as a whole: made ready for cells, and one report at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.json import read_json, save_json
from l2l.suite.files.links import refuse_links
from l2l.suite.files.places import CELLS, LOCKS, REPORT_LOCK, VERSION
from l2l.suite.files.storage import guarded
from l2l.suite.plan.cells import RESULTS_VERSION


def open_results(root: Path) -> None:
    """Make the folder ready for cells.

    Raises:
        SuiteError: it was made by another version of the suite, has links in it, or cannot be
            written to.
    """
    check_version(root)
    refuse_links(root)
    with guarded(root):
        (root / CELLS / LOCKS).mkdir(parents=True, exist_ok=True)
        if read_json(root / CELLS / VERSION) is None:
            save_json(root / CELLS / VERSION, {"results_version": RESULTS_VERSION})


def check_version(root: Path) -> None:
    """Refuse a folder whose cells another version of the suite made."""
    content = read_json(root / CELLS / VERSION)
    found = content.get("results_version") if content is not None else RESULTS_VERSION
    if found != RESULTS_VERSION:
        raise SuiteError(
            f"{root / CELLS / VERSION} says that results version {found} made this folder, but "
            f"this is version {RESULTS_VERSION}: choose another --results, or empty it with "
            "'python reproduce.py clean'"
        )


@contextmanager
def reporting(root: Path) -> Iterator[None]:
    """Wait until no other process writes the folder's report, and keep others from it.

    Raises:
        StorageError: the folder cannot be written to, then or within the block.
    """
    with guarded(root):
        (root / CELLS / LOCKS).mkdir(parents=True, exist_ok=True)
        with FileLock(root / CELLS / LOCKS / REPORT_LOCK):
            yield
