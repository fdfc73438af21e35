"""The run's log file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from suite.errors import SuiteError

LOGS = "logs"

_FORMAT = "%(asctime)s %(process)d %(levelname)s %(message)s"


def log_to(path: Path) -> logging.Handler:
    """Append everything that the suite logs to `path`, until the handler is removed.

    Raises:
        SuiteError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise SuiteError(
            f"{path.parent} cannot be written to ({error.strerror}): choose another --results"
        ) from error
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger = logging.getLogger("suite")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # A full disk is reported once, by what cannot be saved, and not by each line of the log.
    logging.raiseExceptions = False
    logger.addHandler(handler)
    return handler


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """As `log_to`, for the length of the block."""
    handler = log_to(path)
    try:
        yield
    finally:
        logging.getLogger("suite").removeHandler(handler)
        handler.close()


def new_log(root: Path) -> Path:
    """The name of a log that starts now, in the results folder `root`."""
    return root / LOGS / f"{datetime.now().strftime('%Y-%m-%dT%H-%M-%S')}.log"
