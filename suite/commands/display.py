"""Progress for people: bars on a terminal, one line for each finished cell everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from l2l.suite.files.progress import Step
from l2l.suite.plan.cells import Cell
from l2l.suite.run.store import Outcome


class Bars:
    """One bar for all cells, and one for each that runs, with its note and the time left."""

    def __init__(self, total: int) -> None:
        self._quiet = not sys.stderr.isatty()
        self._all: Any = tqdm(
            total=total, desc="cells", unit="cell", disable=self._quiet, position=0, leave=False
        )
        self._running: dict[str, Any] = {}
        self._total = total
        self._ended = 0

    def progress(self, cell: Cell, step: Step) -> None:
        """A running cell is this far."""
        if self._quiet or not step.total:
            return
        bar = self._running.get(cell.key)
        if bar is None:
            # `initial` keeps what an earlier run did out of the estimate of the time left.
            bar = self._running[cell.key] = tqdm(
                total=step.total,
                initial=step.done,
                desc=f"{cell.kind} {cell.name}",
                leave=False,
                unit="",
            )
        bar.set_postfix_str(step.note, refresh=False)
        bar.update(step.done - bar.n)

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """A cell is done, or failed."""
        self._ended += 1
        bar = self._running.pop(cell.key, None)
        if bar is not None:
            bar.close()
        if outcome.state == "failed":
            self._line(f"failed: {cell.label}: {outcome.error}")
        elif outcome.seconds:
            self._line(f"[{self._ended}/{self._total}] {cell.label}: {outcome.seconds:.1f} s")
        self._all.update(1)

    def close(self) -> None:
        """Take the bars off the screen."""
        for bar in (*self._running.values(), self._all):
            bar.close()

    def _line(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)


@contextmanager
def bars(total: int) -> Iterator[Bars]:
    """Bars for `total` cells, gone at the end whatever happens."""
    shown = Bars(total)
    try:
        yield shown
    finally:
        shown.close()
