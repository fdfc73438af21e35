"""The results folder: which cells are done, and running one so that nothing is lost or done twice.

Any process may be killed at any time, and several may work on one folder: a cell is computed
under its lock, which the operating system frees when its owner dies, and is done once its
`cell.json`, written last, is whole.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout

from suite.core.blame import told
from suite.core.digests import file_digest
from suite.core.errors import SuiteError
from suite.core.generators import seeded_generators
from suite.files.atomic import write_text_atomic
from suite.files.json import read_json
from suite.files.links import refuse_links
from suite.files.logs import LogFile
from suite.files.pieces import remove_pieces
from suite.files.places import (
    CELL_LOG,
    CELLS,
    FAILURE,
    LOCKS,
    PIECE,
    PROGRESS,
    RECORD,
    REPORT_LOCK,
    VERSION,
)
from suite.files.progress import CellProgress, Show
from suite.files.provenance import checkout
from suite.files.storage import guarded, storage_cause
from suite.inner.process import follow_environment, full_float32, one_thread_beside_the_kernel
from suite.plan.cells import RESULTS_VERSION, Cell
from suite.plan.unchanged import check_unchanged
from suite.run.kinds import RUNNERS, Job
from suite.run.owner import Owner, owned, read_owner

NOT_RESULTS = (RECORD, FAILURE, CELL_LOG, PROGRESS)

State = Literal["done", "running", "failed", "missing"]

log = logging.getLogger("suite")


@dataclass(frozen=True)
class Outcome:
    """How running a cell ended.

    Args:
        state: ``busy`` if another process is at it.
        error: one sentence, if it failed.
        seconds: spent on it in all, over interruptions; 0 if it was done before.
    """

    state: Literal["done", "failed", "busy"]
    error: str = ""
    seconds: float = 0.0


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
            content = json.dumps({"results_version": RESULTS_VERSION})
            write_text_atomic(root / CELLS / VERSION, content)


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


def record_of(cell: Cell, root: Path) -> dict[str, Any] | None:
    """What `cell.json` says, if the cell is done and all its files are as they were written."""
    folder = cell.folder(root)
    record = read_record(folder / RECORD)
    if record is None or record["key"] != cell.key:
        return None
    try:
        # A file's own name: a record never leads out of its folder.
        whole = all(
            Path(name).name == name and file_digest(folder / name) == digest
            for name, digest in record["files"].items()
        )
    except (OSError, ValueError):
        return None
    return record if whole else None


def read_record(path: Path) -> dict[str, Any] | None:
    """What a `cell.json` says; None if it is not there, not whole, or says something else."""
    record = read_json(path)
    if record is None:
        return None
    tables = all(isinstance(record.get(name), dict) for name in ("config", "files"))
    texts = all(isinstance(record.get(name), str) for name in ("key", "kind", "finished"))
    seconds = record.get("seconds")
    timed = isinstance(seconds, int | float) and 0 <= seconds < math.inf
    return record if tables and texts and timed else None


def unfinished(cells: Iterable[Cell], root: Path) -> tuple[Cell, ...]:
    """What has to be done for these cells to be done, inputs before what reads them.

    What is done needs no inputs any more, be they there or not.
    """
    needed: dict[str, Cell] = {}
    seen = set()

    def visit(cell: Cell) -> None:
        if cell.key in seen:
            return
        seen.add(cell.key)
        if record_of(cell, root) is None:
            for each in cell.inputs:
                visit(each)
            needed[cell.key] = cell

    for cell in cells:
        visit(cell)
    return tuple(needed.values())


def state_of(cell: Cell, root: Path) -> State:
    """Where a cell stands now."""
    if record_of(cell, root) is not None:
        return "done"
    if is_locked(cell.label, root):
        return "running"
    return "failed" if (cell.folder(root) / FAILURE).exists() else "missing"


def is_locked(label: str, root: Path) -> bool:
    """Whether a living process works on the cell in folder `label`."""
    path = _lock_file(label, root)
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        # A folder that cannot be written to has nobody at work in it.
        return False


def failure_of(cell: Cell, root: Path) -> str:
    """The sentence that a failed cell left."""
    return str((read_json(cell.folder(root) / FAILURE) or {}).get("error", "unknown"))


def run_cell(cell: Cell, root: Path, device: str, show: Show | None = None) -> Outcome:
    """Compute a cell whose inputs are done, unless it is done or another process is at it.

    Args:
        cell: what to compute.
        root: the results folder, made ready by `open_results`.
        device: ``cpu`` or ``cuda``; it is no part of the cell's key.
        show: told of the progress.

    Raises:
        StorageError: the folder cannot be written to.
    """
    try:
        with guarded(root), held(cell.label, root):
            if record_of(cell, root) is not None:
                return Outcome("done")
            return _compute(cell, root, device, show)
    except Timeout:
        _tell_once(f"{cell.label} is waited for: at work in {owner_of(cell.label, root)}")
        return Outcome("busy")


@contextmanager
def held(label: str, root: Path) -> Iterator[None]:
    """Hold the cell in folder `label` for the length of the block, which any thread may end.

    Raises:
        Timeout: another process holds it.
    """
    lock = FileLock(_lock_file(label, root), timeout=0, thread_local=False)
    with lock, owned(_owner_file(label, root)):
        yield


def owner_of(label: str, root: Path) -> Owner | str:
    """Who works on the cell in folder `label`, which is locked."""
    return read_owner(_owner_file(label, root)) or "another process"


@contextmanager
def reporting(root: Path) -> Iterator[None]:
    """Wait until no other process writes the folder's report, and keep others from it."""
    (root / CELLS / LOCKS).mkdir(parents=True, exist_ok=True)
    with FileLock(root / CELLS / LOCKS / REPORT_LOCK):
        yield


def _lock_file(label: str, root: Path) -> Path:
    """What whoever works on the cell in folder `label` holds locked."""
    return root / CELLS / LOCKS / f"{label}.lock"


def _owner_file(label: str, root: Path) -> Path:
    return root / CELLS / LOCKS / f"{label}.json"


@functools.cache
def _tell_once(sentence: str) -> None:
    """A cell that is waited for is looked at twice a second, and told of once."""
    log.info("%s", sentence)


def _compute(cell: Cell, root: Path, device: str, show: Show | None) -> Outcome:
    folder = cell.folder(root)
    prepare(folder)
    progress = CellProgress(folder, show)
    inputs = tuple(each.folder(root) for each in cell.inputs)
    follow_environment()
    with (
        _log_to(folder / CELL_LOG),
        one_thread_beside_the_kernel(),
        full_float32(),
        seeded_generators(),
    ):
        log.info("%s starts", cell.label)
        try:
            check_unchanged(cell.config)
            RUNNERS[cell.kind](Job(cell.config, inputs, folder, device, progress))
            seconds = progress.seconds()
            _finish(cell, folder, device, seconds)
        except Exception as error:
            return _failed(cell, root, error, progress.seconds())
        log.info("%s is done after %.1f s", cell.label, seconds)
    return Outcome("done", seconds=seconds)


def prepare(folder: Path) -> None:
    """Make a cell's folder ready to be worked in; what can be resumed stays."""
    if (folder / RECORD).exists():
        log.warning("%s is damaged and computed again", folder.name)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILURE).unlink(missing_ok=True)
    # Temporary files of a process that was killed while it wrote.
    for leftover in folder.glob(".*"):
        leftover.unlink()


def _finish(cell: Cell, folder: Path, device: str, seconds: float) -> None:
    files = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_file() and path.name not in NOT_RESULTS and not path.name.startswith(PIECE)
    )
    record = {
        "results_version": RESULTS_VERSION,
        "kind": cell.kind,
        "key": cell.key,
        "config": cell.config,
        "inputs": [each.label for each in cell.inputs],
        "files": {name: file_digest(folder / name) for name in files},
        "seconds": round(seconds, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        **checkout(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    write_text_atomic(folder / RECORD, json.dumps(record, indent=1))
    tidy(folder)


def tidy(folder: Path) -> None:
    """Delete what only a cell that is not done needs."""
    (folder / PROGRESS).unlink(missing_ok=True)
    remove_pieces(folder)


def _failed(cell: Cell, root: Path, error: Exception, seconds: float) -> Outcome:
    if storage_cause(error, root) is not None:
        raise error
    if isinstance(error, SuiteError):
        sentence = str(error)
        log.error("%s failed: %s", cell.label, sentence)
    else:
        sentence = told(error)
        log.exception("%s failed", cell.label)
    return failure(cell, root, sentence, seconds)


def failure(cell: Cell, root: Path, sentence: str, seconds: float = 0.0) -> Outcome:
    """The outcome of a cell that failed, which its folder tells of as well."""
    folder = cell.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomic(folder / FAILURE, json.dumps({"error": sentence}))
    return Outcome("failed", sentence, seconds)


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Copies the log into a cell's folder while the cell runs."""
    handler = LogFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
