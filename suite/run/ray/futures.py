"""Ray's futures, with the errors that the scheduler knows."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any

from l2l.suite.core.errors import SuiteError
from l2l.suite.run import workers
from l2l.suite.run.workers import WorkerDied

log = logging.getLogger("suite")


def translated(inner: Future[Any]) -> Future[Any]:
    """The same future with the cell's own error, or `WorkerDied` for one that is Ray's."""
    return workers.translated(inner, _known)


def _known(error: BaseException) -> BaseException:
    from ray.exceptions import LocalRayletDiedError, RayError, RayTaskError

    if isinstance(error, RayTaskError):
        return error.cause  # type: ignore[no-any-return]
    if isinstance(error, LocalRayletDiedError):
        return SuiteError(
            "Ray's own process on this machine died: run the same command again to resume"
        )
    if isinstance(error, RayError):
        log.warning("%s", str(error).splitlines()[0])
        return WorkerDied()
    return error
