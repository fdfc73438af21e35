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


def check_folder(root: Path, option: str = "--results", there: bool = True) -> None:
    """Refuse what cannot be a results folder.

    Args:
        root: the results folder.
        option: how errors call what named it.
        there: it must be there, because it is read.

    Raises:
        SuiteError: it is a file, is not there, or has links in it.
    """
    if root.exists() and not root.is_dir():
        raise SuiteError(f"{option} {root} is a file, but must be a folder")
    if there and not root.exists():
        raise SuiteError(
            f"there is no folder {root}: {option} must be one that 'run' or 'merge' has made"
        )
    refuse_links(root)


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
