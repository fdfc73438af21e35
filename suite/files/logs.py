"""The run's log file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.places import LATEST, LOGS

_FORMAT = "%(asctime)s %(process)d %(levelname)s %(message)s"


class LogFile(logging.FileHandler):
    """A log in a file, without which the work goes on.

    A full disk is reported once, by what cannot be saved, and not by each line of the log.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing."""

    def close(self) -> None:
        """As ever; what is left to write may find no room either."""
        with suppress(OSError):
            super().close()


class _OneLine(logging.Formatter):
    """One line for each event; tracebacks are in the log of the cell that failed."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage().replace("\n", " ")
        record.asctime = self.formatTime(record)
        return self.formatMessage(record)


def log_to(path: Path) -> logging.Handler:
    """Append everything that the suite logs to `path`, until the handler is removed.

    Raises:
        SuiteError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = LogFile(path)
    except OSError as error:
        raise SuiteError(
            f"{path.parent} cannot be written to ({error.strerror}): choose another --results"
        ) from error
    handler.setFormatter(_OneLine(_FORMAT))
    logger = logging.getLogger("suite")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    return handler


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """As `log_to`, for the length of the block; `latest.log` beside it leads to it."""
    logger = logging.getLogger("suite")
    level, propagate = logger.level, logger.propagate
    handler = log_to(path)
    with suppress(OSError):  # some file systems have no links
        link = path.with_name(f".{LATEST}.{os.getpid()}")
        link.symlink_to(path.name)
        link.replace(path.with_name(LATEST))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        handler.close()


def new_log(root: Path) -> Path:
    """The name of a log that starts now, in the results folder `root`."""
    return root / LOGS / f"{datetime.now().strftime('%Y-%m-%dT%H-%M-%S')}.log"
