"""Hands out cells whose inputs are done, until none is left that can be run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from l2l.suite.core.registry import kinds
from l2l.suite.files.progress import Step, read_progress
from l2l.suite.plan.cells import Cell
from l2l.suite.run.store import Outcome, failure
from l2l.suite.run.workers import WorkerDied, Workers

# Seconds between looks at running cells, and at cells that another process has.
POLL = 0.5

log = logging.getLogger("suite")


class Display(Protocol):
    """Told of everything that happens, to show it."""

    def progress(self, cell: Cell, step: Step) -> None:
        """A running cell is this far."""

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """A cell is done, or failed."""


@dataclass
class _State:
    waiting: dict[str, Cell]
    all: frozenset[str]
    ended: dict[str, Outcome] = field(default_factory=dict)
    running: dict[Future[Outcome], Cell] = field(default_factory=dict)
    busy_until: dict[str, float] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)


def run_all(
    cells: Sequence[Cell], root: Path, workers: Workers, display: Display
) -> dict[str, Outcome]:
    """Run cells and return how each ended, by key; those behind a failed one are left out.

    Inputs of theirs that are not among them are done.

    Raises:
        StorageError: the results folder cannot be written to.
    """
    state = _State({cell.key: cell for cell in cells}, frozenset(cell.key for cell in cells))
    looked = time.monotonic()
    while state.waiting or state.running:
        if not _submit_ready(state, workers, display) and not state.running:
            if not state.busy_until:
                break
            # All that is left is in the hands of another process, or waits for what is.
            time.sleep(POLL)
            continue
        ended, _ = wait(state.running, timeout=POLL, return_when=FIRST_COMPLETED)
        for future in ended:
            _end(state, future, root, workers.attempts, display)
        if time.monotonic() - looked >= POLL:
            for cell in state.running.values():
                display.progress(cell, read_progress(cell.folder(root)))
            looked = time.monotonic()
    return state.ended


def _submit_ready(state: _State, workers: Workers, display: Display) -> bool:
    """Start what can be started; whether anything was."""
    started = False
    for cell in _ready(state):
        if len(state.running) >= workers.capacity:
            break
        state.busy_until.pop(cell.key, None)
        del state.waiting[cell.key]
        state.running[workers.submit(cell, partial(display.progress, cell))] = cell
        started = True
    return started


def _ready(state: _State) -> Iterable[Cell]:
    """Cells whose inputs are done; the kinds that others wait for come first."""
    now = time.monotonic()
    ready = [
        cell
        for cell in state.waiting.values()
        if state.busy_until.get(cell.key, 0) <= now
        and all(_is_done(state, each) for each in cell.inputs)
    ]
    return sorted(ready, key=lambda cell: -kinds.cls(cell.kind).priority)


def _is_done(state: _State, cell: Cell) -> bool:
    outcome = state.ended.get(cell.key)
    return cell.key not in state.all or (outcome is not None and outcome.state == "done")


def _end(
    state: _State, future: Future[Outcome], root: Path, attempts: int, display: Display
) -> None:
    cell = state.running.pop(future)
    try:
        outcome = future.result()
    except WorkerDied:
        deaths = state.deaths[cell.key] = state.deaths.get(cell.key, 0) + 1
        if deaths < attempts:
            log.warning("%s: its worker process died; it is resumed", cell.label)
            state.waiting[cell.key] = cell
            return
        sentence = f"its worker process died {deaths} times: is there too little memory for it?"
        log.error("%s failed: %s", cell.label, sentence)
        outcome = failure(cell, root, sentence)
    if outcome.state == "busy":
        state.busy_until[cell.key] = time.monotonic() + POLL
        state.waiting[cell.key] = cell
        return
    state.ended[cell.key] = outcome
    display.ended(cell, outcome)
