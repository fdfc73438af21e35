"""How far a cell is: a small file in its folder, which any process can read."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from l2l.suite.core.convert import fill
from l2l.suite.core.errors import SuiteError
from l2l.suite.files.json import read_json, save_json
from l2l.suite.files.places import PROGRESS

# Seconds between writes of the file, and between lines in the log.
INTERVAL = 2.0
LOG_INTERVAL = 30.0

log = logging.getLogger("suite")


@dataclass(frozen=True)
class Step:
    """How far a cell is.

    Args:
        done: units of work done.
        total: units in all; 0 if not known.
        note: such as the validation loss.
        seconds: spent on it, earlier attempts included.
        pid: the process that works on it.
    """

    done: int = 0
    total: int = 0
    note: str = ""
    seconds: float = 0.0
    pid: int = 0


Show = Callable[[Step], None]
# Called with what is done, out of what, and a note such as the validation loss.
Progress = Callable[[int, int, str], None]


def silent(done: int, total: int, note: str) -> None:
    """A `Progress` for where nobody asks."""


class CellProgress:
    """What a runner calls: tells `show` at once, the file and the log now and then."""

    def __init__(self, folder: Path, show: Show | None = None) -> None:
        self._path = folder / PROGRESS
        self._show = show
        self._before = read_progress(folder).seconds
        self._started = time.monotonic()
        self._written = -INTERVAL
        self._logged = 0.0
        self(0, 0, "")

    def seconds(self) -> float:
        """Spent on the cell, earlier attempts included."""
        return self._before + time.monotonic() - self._started

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Units of work done, of how many, and a note."""
        step = Step(done, total, note, round(self.seconds(), 3), os.getpid())
        if self._show is not None:
            self._show(step)
        now = time.monotonic() - self._started
        if now - self._written >= INTERVAL:
            self._written = now
            save_json(self._path, step)
        if now - self._logged >= LOG_INTERVAL:
            self._logged = now
            log.info("%s: %d of %d, %s", self._path.parent.name, done, total, note)


def read_progress(folder: Path) -> Step:
    """How far the cell in `folder` was when it last said so; all zero if it never did."""
    try:
        return fill(Step, read_json(folder / PROGRESS) or {}, PROGRESS)
    except SuiteError:
        return Step()
