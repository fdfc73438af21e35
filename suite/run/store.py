"""Running a cell so that nothing is lost or done twice.

Any process may be killed at any time, and several may work on one folder: a cell is computed
under its lock, which the operating system frees when its owner dies, and is done once its
`cell.json`, written last, is whole.
"""

from __future__ import annotations

import functools
import logging
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import Timeout

from l2l.suite.core.blame import told
from l2l.suite.core.digests import file_digest
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.kind import Job
from l2l.suite.core.registry import kinds
from l2l.suite.files.json import save_json
from l2l.suite.files.logs import LogFile
from l2l.suite.files.pieces import remove_pieces
from l2l.suite.files.places import CELL_LOG, FAILURE, PIECE, PROGRESS, RECORD
from l2l.suite.files.progress import CellProgress, Show
from l2l.suite.files.provenance import checkout, machine_name
from l2l.suite.files.storage import guarded, storage_cause
from l2l.suite.inner.process import as_in_a_cell
from l2l.suite.plan.cells import RESULTS_VERSION, Cell
from l2l.suite.plan.unchanged import check_unchanged
from l2l.suite.run.locks import held, owner_of
from l2l.suite.run.records import record_of

NOT_RESULTS = (RECORD, FAILURE, CELL_LOG, PROGRESS)


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


def run_cell(cell: Cell, root: Path, device: str, show: Show | None = None) -> Outcome:
    """Compute a cell whose inputs are done, unless it is done or another process is at it.

    Args:
        cell: what to compute.
        root: the results folder, made ready by `suite.run.folder.open_results`.
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
        _tell_once(f"{cell.label} is waited for: computed by {owner_of(cell.label, root)}")
        return Outcome("busy")


@functools.cache
def _tell_once(sentence: str) -> None:
    """A cell that is waited for is looked at twice a second, and told of once."""
    log.info("%s", sentence)


def _compute(cell: Cell, root: Path, device: str, show: Show | None) -> Outcome:
    folder = cell.folder(root)
    prepare(folder)
    progress = CellProgress(folder, show)
    inputs = tuple(each.folder(root) for each in cell.inputs)
    with _log_to(folder / CELL_LOG), as_in_a_cell():
        log.info("%s starts", cell.label)
        try:
            check_unchanged(cell.config)
            kind = kinds.cls(cell.kind)()
            kind.run(Job(cell.config, inputs, folder, device, progress))
            if lacking := [name for name in kind.leaves if not (folder / name).is_file()]:
                raise SuiteError(f"{type(kind).__name__}.run must leave {lacking[0]}, but did not")
            seconds = progress.seconds()
            _finish(cell, folder, device, seconds)
        except (Exception, SystemExit) as error:
            # Authors' code may call sys.exit. But a worker of Ray ends by it when it is told to.
            if isinstance(error, SystemExit) and "ray" in sys.modules:
                raise
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
        if not leftover.is_dir():  # such as .ipynb_checkpoints
            leftover.unlink()


def _finish(cell: Cell, folder: Path, device: str, seconds: float) -> None:
    files = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_file()
        and path.name not in NOT_RESULTS
        and not path.name.startswith((PIECE, "."))
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
        "machine": machine_name(device),
        **checkout(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    save_json(folder / RECORD, record)
    tidy(folder)


def tidy(folder: Path) -> None:
    """Delete what only a cell that is not done needs."""
    (folder / PROGRESS).unlink(missing_ok=True)
    remove_pieces(folder)


def _failed(cell: Cell, root: Path, error: Exception | SystemExit, seconds: float) -> Outcome:
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
    save_json(folder / FAILURE, {"error": sentence})
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
