"""Who holds the lock of a cell: told to people; the lock itself is the operating system's."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from suite.core.convert import fill
from suite.core.errors import SuiteError
from suite.files.atomic import write_text_atomic
from suite.files.json import read_json


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
    write_text_atomic(path, json.dumps(asdict(Owner(platform.node(), os.getpid(), since))))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def read_owner(path: Path) -> Owner | None:
    """Who wrote the file; a process that was killed leaves it, so it counts only under a lock."""
    try:
        return fill(Owner, read_json(path) or {}, path.name)
    except SuiteError:
        return None
