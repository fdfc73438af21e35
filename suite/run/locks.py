"""Locks of cells, the operating system's own, and who holds one, for people to be told."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from l2l.suite.core.convert import fill
from l2l.suite.core.errors import SuiteError
from l2l.suite.files.json import read_json, save_json
from l2l.suite.files.places import CELLS, LOCKS, REPORT_LOCK
from l2l.suite.files.storage import StorageError, guarded

LOCK = ".lock"


@dataclass(frozen=True)
class Owner:
    """The process that works on a cell, and since when (UTC)."""

    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Write this process's name into `path` for the length of the block."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    save_json(path, Owner(platform.node(), os.getpid(), since))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def is_locked(label: str, root: Path) -> bool:
    """Whether a living process works on the cell in folder `label`.

    Raises:
        StorageError: its lock cannot be read, so nobody knows.
    """
    path = _lock_file(label, root)
    try:
        path.stat()
        with FileLock(path, timeout=0):
            return False
    except FileNotFoundError:
        return False
    except Timeout:
        return True
    except OSError:
        return _is_locked_by_others(path)


def _is_locked_by_others(path: Path) -> bool:
    """The same, of a lock that is not ours to write to: another user's, or on a read-only disk."""
    import fcntl  # which Windows has not

    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # either, by the file system
                return True
        return False
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unknown(path, error, "the cell") from error


def _unknown(path: Path, error: OSError, what: str) -> StorageError:
    return StorageError(
        f"{path} cannot be read or locked ({error.strerror}), so whether a process works on {what} "
        "is not known: nothing is deleted, run it again where and as a user who can"
    )


def is_at_work(root: Path) -> bool:
    """Whether a process computes cells of the folder, or reads them; it may need any that are done.

    Raises:
        StorageError: a lock cannot be read, so nobody knows.
    """
    try:
        names = os.listdir(root / CELLS / LOCKS)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unknown(root / CELLS / LOCKS, error, "the folder") from error
    # Whoever only writes a report of tables needs no cell.
    locks = [name for name in names if name.endswith(LOCK) and name != REPORT_LOCK]
    labels = (name.removesuffix(LOCK) for name in locks)
    return any(is_locked(label, root) for label in labels)


@contextmanager
def at_work(root: Path) -> Iterator[None]:
    """Others see that the folder's cells are read, for the length of the block.

    Raises:
        StorageError: the folder cannot be written to.
    """
    path = _lock_file(f"run-{secrets.token_hex(8)}", root)
    lock = FileLock(path)
    with guarded(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()


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
    # A process that was killed leaves its name, so it counts only under a lock.
    path = _owner_file(label, root)
    try:
        return fill(Owner, read_json(path) or {}, path.name)
    except SuiteError:
        return "another process"


def _lock_file(label: str, root: Path) -> Path:
    """What whoever works on the cell in folder `label` holds locked."""
    return root / CELLS / LOCKS / f"{label}{LOCK}"


def _owner_file(label: str, root: Path) -> Path:
    return root / CELLS / LOCKS / f"{label}.json"
