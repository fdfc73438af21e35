"""Where cells run: in this process, in worker processes of this machine, or on a Ray cluster.

An executor is a function from settings to a context manager that yields a `Workers`. One scheduler
serves all: it hands out cells whose inputs are done and collects how they ended.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

import torch

from l2l.suite.core.device import find_device
from l2l.suite.core.plugins import load_plugin
from l2l.suite.files.logs import log_to
from l2l.suite.files.progress import Show
from l2l.suite.files.provenance import checkout
from l2l.suite.inner.process import keep_freed_memory
from l2l.suite.plan.cells import Cell
from l2l.suite.run.store import Outcome, run_cell
from l2l.suite.run.workers import Settings, WorkerDied, Workers, translated


class _Spawn(SpawnContext):
    """Starts processes anew, and remembers them.

    They are not forked: a copy of a process that already runs threads may hang.
    """

    def __init__(self) -> None:
        self.children: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]
        """A process of this context."""
        self.children.append(SpawnProcess(*args, **kwargs))
        return self.children[-1]


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
def processes(settings: Settings, jobs: int) -> Iterator[Workers]:
    """`jobs` worker processes, which share the machine's threads evenly."""
    context = _Spawn()
    threads = max(1, torch.get_num_threads() // jobs)

    # A pool of its own for each: with a process, all that its pool is at dies.
    idle: list[ProcessPoolExecutor] = []

    def start() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1, context, initializer=_start_worker, initargs=(settings, threads)
        )

    def submit(cell: Cell, show: Show) -> Future[Outcome]:
        pool = idle.pop() if idle else start()
        try:
            inner = pool.submit(_run, cell, settings)
        except BrokenProcessPool:
            pool = start()
            inner = pool.submit(_run, cell, settings)

        def leave(done: Future[Outcome]) -> None:
            if done.cancelled() or isinstance(done.exception(), BrokenProcessPool):
                return
            idle.append(pool)

        # Before the scheduler hears of it and asks for the next.
        inner.add_done_callback(leave)
        return translated(inner, _known)

    try:
        yield Workers(jobs, submit)
        for pool in idle:
            pool.shutdown()
    except BaseException:
        # Whatever they are at can be resumed, so nobody has to wait for it.
        for child in context.children:
            if child.pid is not None:  # it may not have been started yet
                child.kill()
        raise


def local(settings: Settings) -> AbstractContextManager[Workers]:
    """This machine: this process for one job, worker processes for several."""
    settings = replace(settings, device=find_device(settings.device))
    jobs = settings.jobs or 1
    return in_process(settings) if jobs == 1 else processes(settings, jobs)


def ray(settings: Settings) -> AbstractContextManager[Workers]:
    """A Ray cluster."""
    # Imported on use: it is an optional dependency.
    from l2l.suite.run.ray.executor import cluster

    return cluster(settings)


Executor = Callable[[Settings], AbstractContextManager[Workers]]

EXECUTORS: dict[str, Executor] = {"local": local, "ray": ray}


def _start_worker(settings: Settings, threads: int) -> None:
    # Ctrl-C reaches every process of the terminal; the first one decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    keep_freed_memory()
    checkout()  # which is asked for once
    if settings.log is not None:
        log_to(settings.log)


def _run(cell: Cell, settings: Settings) -> Outcome:
    """`run_cell` in a worker process."""
    _load_plugins(settings.plugins)
    return run_cell(cell, settings.root, settings.device)


@functools.cache
def _load_plugins(plugins: tuple[Path, ...]) -> None:
    """Once in a process. Not when it starts: what is wrong with a plugin then breaks the pool."""
    for plugin in plugins:
        load_plugin(plugin)


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on and hold its locks."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _known(error: BaseException) -> BaseException:
    """`WorkerDied` for a pool that broke."""
    return WorkerDied() if isinstance(error, BrokenProcessPool) else error
