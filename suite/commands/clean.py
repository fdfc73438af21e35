"""Deleting cells from a results folder, and nothing else."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.core.registry import kinds
from l2l.suite.files.links import refuse_links
from l2l.suite.files.listing import stat_of, stats_below
from l2l.suite.files.places import CELLS, VERSION
from l2l.suite.plan.cells import SHORT
from l2l.suite.run.locks import held, is_locked

_CELL = re.compile(rf"[a-z]+-[a-z0-9-]*-[0-9a-f]{{{SHORT}}}")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Found:
    """A cell's folder, its size in bytes and its age in seconds."""

    folder: Path
    size: int
    age: float


def find_cells(
    root: Path, kind: str | None, older_than: str | None, keep: Collection[str]
) -> list[Found]:
    """Folders of cells that may be deleted; those at work are left out.

    Args:
        root: the results folder.
        kind: only these.
        older_than: only those not written to for so long, such as ``7d`` or ``12h``.
        keep: names of folders to leave out.

    Raises:
        SuiteError: an unknown kind, an age that is none, or a folder with links in it.
    """
    refuse_links(root)
    folders = sorted((root / CELLS).glob("*-*"))
    # Those of plugins too, which need not be there to clean up after them.
    known = {*kinds, *(folder.name.partition("-")[0] for folder in folders)}
    if kind is not None and kind not in known:
        raise SuiteError(f"--kind: there is no kind {kind!r} of cell: {nearest(kind, known)}")
    limit = _seconds(older_than) if older_than is not None else 0.0
    found = []
    for folder in folders:
        # Only what a cell's folder looks like: users' own folders are not ours.
        if not folder.is_dir() or not _CELL.fullmatch(folder.name):
            continue
        if kind is not None and not folder.name.startswith(f"{kind}-"):
            continue
        if folder.name in keep or is_locked(folder.name, root):
            continue
        own, inside = stat_of(folder), tuple(stats_below(folder))
        if own is None:
            continue
        age = time.time() - max(each.st_mtime for each in (own, *inside))
        if age < limit:
            continue
        found.append(Found(folder, sum(each.st_size for each in inside), age))
    return found


def delete_cells(found: Collection[Found], root: Path) -> None:
    """Delete the folders; once no cell is left, the folder is open to every version.

    One that another process has begun to work in since it was found is left, and one that is gone
    is passed over.

    Raises:
        SuiteError: one cannot be deleted.
    """
    try:
        for each in found:
            with suppress(Timeout), held(each.folder.name, root):
                _delete(each.folder)
        if not any(_CELL.fullmatch(path.name) for path in (root / CELLS).glob("*-*")):
            (root / CELLS / VERSION).unlink(missing_ok=True)
    except OSError as error:
        raise SuiteError(f"{error.filename} cannot be deleted: {error.strerror}") from error


def _delete(folder: Path) -> None:
    while folder.exists():
        with suppress(FileNotFoundError):  # others delete it, too
            shutil.rmtree(folder)


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", age.strip())
    if match is None:
        raise SuiteError(f"--older-than is {age!r}, but must be a number and s, m, h, d or w: 7d")
    return float(match[1]) * _UNITS[match[2]]
