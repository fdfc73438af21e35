"""What all executors give the scheduler, on this machine and on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2l.suite.files.progress import Show
from l2l.suite.plan.cells import Cell
from l2l.suite.run.store import Outcome


@dataclass(frozen=True)
class Settings:
    """How cells are run; none of it changes what they compute.

    Args:
        root: the results folder.
        device: ``cpu`` or ``cuda``; ``auto`` where only the executor can tell.
        jobs: cells at a time; if None, one here, and on a cluster as many as fit.
        plugins: users' files, which every process has to import.
        log: the run's log file.
    """

    root: Path
    device: str
    jobs: int | None = None
    plugins: tuple[Path, ...] = ()
    log: Path | None = None


@dataclass(frozen=True)
class Workers:
    """What the scheduler needs of an executor.

    Args:
        capacity: cells at a time.
        submit: start a cell; its future gives the outcome, or `WorkerDied`.
        attempts: workers that may die at one cell. One may have been short of memory, or hit by
            something; on a machine of its own twice is no accident.
    """

    capacity: int
    submit: Callable[[Cell, Show], Future[Outcome]]
    attempts: int = 2


class WorkerDied(Exception):
    """The process that computed a cell is gone; its cell can be resumed by another."""


def translated(inner: Future[Any], known: Callable[[BaseException], BaseException]) -> Future[Any]:
    """The same future, with the error that is `known` to the scheduler for its own."""
    outer: Future[Any] = Future()

    def copy(done: Future[Any]) -> None:
        if done.cancelled():
            outer.cancel()
            return
        error = done.exception()
        if error is not None:
            outer.set_exception(known(error))
        else:
            outer.set_result(done.result())

    inner.add_done_callback(copy)
    return outer
