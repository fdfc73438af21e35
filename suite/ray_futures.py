"""Ray's futures, with the errors that the scheduler knows."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any

from suite.executors import WorkerDied

log = logging.getLogger("suite")


def translated(inner: Future[Any]) -> Future[Any]:
    """The same future with the cell's own error, or `WorkerDied` for one that is Ray's."""
    from ray.exceptions import RayError, RayTaskError

    outer: Future[Any] = Future()

    def copy(done: Future[Any]) -> None:
        error = done.exception()
        if isinstance(error, RayTaskError):
            outer.set_exception(error.cause)
        elif isinstance(error, RayError):
            log.warning("%s", str(error).splitlines()[0])
            outer.set_exception(WorkerDied())
        elif error is not None:
            outer.set_exception(error)
        else:
            outer.set_result(done.result())

    inner.add_done_callback(copy)
    return outer
