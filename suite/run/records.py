"""What cells left: whether it is whole, and what of a plan is still to be done."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from l2l.suite.core.digests import current_digest
from l2l.suite.files.json import load_table, read_json
from l2l.suite.files.places import FAILURE, RECORD
from l2l.suite.files.storage import StorageError
from l2l.suite.plan.cells import Cell, in_order
from l2l.suite.run.locks import is_locked

State = Literal["done", "running", "failed", "missing"]


def record_of(cell: Cell, root: Path) -> dict[str, Any] | None:
    """What `cell.json` says, if the cell is done and all its files are as they were written.

    Raises:
        StorageError: a file is there and cannot be read, so nobody knows.
    """
    folder = cell.folder(root)
    record = read_record(folder / RECORD)
    if record is None or record["key"] != cell.key:
        return None
    try:
        # A file's own name: a record never leads out of its folder.
        whole = all(
            Path(name).name == name and current_digest(folder / name) == digest
            for name, digest in record["files"].items()
        )
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise _unreadable(error) from error
    return record if whole else None


def read_record(path: Path) -> dict[str, Any] | None:
    """What a `cell.json` says; None if it is not there, not whole, or says something else.

    Raises:
        StorageError: it is there and cannot be read.
    """
    try:
        record = load_table(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise _unreadable(error) from error
    tables = all(isinstance(record.get(name), dict) for name in ("config", "files"))
    texts = all(isinstance(record.get(name), str) for name in ("key", "kind", "finished"))
    seconds = record.get("seconds")
    timed = isinstance(seconds, int | float) and 0 <= seconds < math.inf
    return record if tables and texts and timed else None


def _unreadable(error: OSError) -> StorageError:
    # A cell that only seems to be damaged must not be computed again in the place of what is there.
    return StorageError(
        f"{error.filename} cannot be read ({error.strerror or error}): nothing is computed or "
        "deleted, run it again once it can be read"
    )


def unfinished(cells: Iterable[Cell], root: Path) -> tuple[Cell, ...]:
    """What has to be done for these cells to be done, inputs before what reads them.

    What is done needs no inputs any more, be they there or not.
    """
    return in_order(cells, done=lambda cell: record_of(cell, root) is not None)


def failure_of(cell: Cell, root: Path) -> str:
    """The sentence that a failed cell left."""
    return str((read_json(cell.folder(root) / FAILURE) or {}).get("error", "unknown"))


def state_of(cell: Cell, root: Path) -> State:
    """Where a cell stands now."""
    if record_of(cell, root) is not None:
        return "done"
    if is_locked(cell.label, root):
        return "running"
    return "failed" if (cell.folder(root) / FAILURE).exists() else "missing"
