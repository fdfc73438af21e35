"""What every kind of fault is tried with, and what is counted."""

from __future__ import annotations

import itertools
import random
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.soak.folder import finished, half_written, tables
from benchmarks.soak.process import DONE, Task, complete


@dataclass
class Tally:
    """Faults of one kind: how many were injected, and what went wrong after them."""

    kind: str
    injected: int = 0
    wrong: list[str] = field(default_factory=list)

    def blame(self, sentence: str) -> None:
        """Count something that went wrong."""
        self.wrong.append(sentence)
        print(f"{self.kind}, fault {self.injected}: {sentence}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Bench:
    """A place to work in, the experiments, an undisturbed run's tables, and chance."""

    folder: Path
    names: tuple[str, ...]
    undisturbed: Mapping[str, object]
    chance: random.Random
    executor: str = "local"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def task(self, jobs: int = 1) -> Task:
        """A run into a folder that is not there yet."""
        root = self.folder / f"trial-{next(self._numbers)}" / "results"
        return Task(self.names, root, jobs, self.executor)

    def check_whole(
        self, task: Task, before: Mapping[str, int], tally: Tally, damaged: str = ""
    ) -> None:
        """That no file is half-written and no finished cell lost or computed again."""
        for name in half_written(task.root, damaged):
            tally.blame(f"{name} is not whole")
        now = finished(task.root)
        for label, when in before.items():
            if label != damaged and now.get(label) != when:
                tally.blame(f"{label} was finished and is lost or computed again")

    def check_tables(self, task: Task, tally: Tally, damaged: str = "") -> None:
        """That the run can be completed and ends with an undisturbed run's tables."""
        before = finished(task.root)
        ended = complete(task)
        if ended.code != DONE:
            tally.blame(f"the run cannot be completed, code {ended.code}: {ended.text[-2000:]}")
            return
        self.check_whole(task, before, tally, damaged)
        for name, content in tables(task.root).items():
            if content != self.undisturbed[name]:
                tally.blame(f"{name} differs from an undisturbed run's")
        shutil.rmtree(task.root.parent, ignore_errors=True)
