"""Where cells run: in this process, or in worker processes of this machine.

An executor is a function from settings to a context manager that yields a `Workers`. One scheduler
serves all: it hands out cells whose inputs are done and collects how they ended. A cluster is one
more entry in `EXECUTORS`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from suite.cells import Cell
from suite.errors import SuiteError
from suite.logs import log_to
from suite.process import keep_freed_memory
from suite.progress import Show
from suite.registry import load_plugin, nearest
from suite.store import Outcome, run_cell


@dataclass(frozen=True)
class Settings:
    """How cells are run; none of it changes what they compute.

    Args:
        root: the results folder.
        device: ``cpu`` or ``cuda``.
        jobs: cells at a time.
        plugins: users' files, which every process has to import.
        log: the run's log file.
    """

    root: Path
    device: str
    jobs: int = 1
    plugins: tuple[Path, ...] = ()
    log: Path | None = None


@dataclass(frozen=True)
class Workers:
    """What the scheduler needs of an executor.

    Args:
        capacity: cells at a time.
        submit: start a cell; its future gives the outcome, or `WorkerDied`.
    """

    capacity: int
    submit: Callable[[Cell, Show], Future[Outcome]]


class WorkerDied(Exception):
    """The process that computed a cell is gone; its cell can be resumed by another."""


@contextmanager
def in_process(settings: Settings) -> Iterator[Workers]:
    """One cell after the other in this process."""
    keep_freed_memory()

    def submit(cell: Cell, show: Show) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_result(run_cell(cell, settings.root, settings.device, show))
        return future

    yield Workers(1, submit)


@contextmanager
def processes(settings: Settings) -> Iterator[Workers]:
    """`settings.jobs` worker processes, which share the machine's threads evenly."""
    # Spawned, not forked: a copy of a process that already runs threads may hang.
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // settings.jobs)

    def start() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            settings.jobs, context, initializer=_start_worker, initargs=(settings, threads)
        )

    pool = start()

    def submit(cell: Cell, show: Show) -> Future[Outcome]:
        nonlocal pool
        try:
            inner = pool.submit(run_cell, cell, settings.root, settings.device)
        except BrokenProcessPool:
            pool = start()
            inner = pool.submit(run_cell, cell, settings.root, settings.device)
        return _translated(inner)

    try:
        yield Workers(settings.jobs, submit)
        pool.shutdown()
    except BaseException:
        # Whatever they are at can be resumed, so nobody has to wait for it.
        for child in multiprocessing.active_children():
            child.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def local(settings: Settings) -> AbstractContextManager[Workers]:
    """This machine: this process for one job, worker processes for several."""
    return in_process(settings) if settings.jobs == 1 else processes(settings)


Executor = Callable[[Settings], AbstractContextManager[Workers]]

EXECUTORS: dict[str, Executor] = {"local": local}


def find_executor(name: str) -> Executor:
    """The executor called `name`; SuiteError if there is none."""
    if name not in EXECUTORS:
        hint = nearest(name, list(EXECUTORS))
        raise SuiteError(f"--executor: there is no executor {name!r}: {hint}")
    return EXECUTORS[name]


def _start_worker(settings: Settings, threads: int) -> None:
    # Ctrl-C reaches every process of the terminal; the first one decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    keep_freed_memory()
    if settings.log is not None:
        log_to(settings.log)
    for plugin in settings.plugins:
        load_plugin(plugin)


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on and hold its locks."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _translated(inner: Future[Outcome]) -> Future[Outcome]:
    """The same future, with `WorkerDied` for a pool that broke."""
    outer: Future[Outcome] = Future()

    def copy(done: Future[Outcome]) -> None:
        if done.cancelled():
            outer.cancel()
            return
        error = done.exception()
        if isinstance(error, BrokenProcessPool):
            outer.set_exception(WorkerDied())
        elif error is not None:
            outer.set_exception(error)
        else:
            outer.set_result(done.result())

    inner.add_done_callback(copy)
    return outer
