"""A step of meta-training and of evaluation beside a process that keeps one processor busy.

Each measurement is a process of its own, `python -m benchmarks.neighbour REPEATS`, because OpenMP
reads the number of threads when it is loaded.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from statistics import median
from unittest.mock import patch

import pandas as pd
import torch

from benchmarks.timing import seconds
from benchmarks.window import WINDOW, by_suite, evaluate, learned
from l2l.problems.mlp import MLP
from l2l.suite.core.team import Team
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.process import keep_freed_memory, one_thread_beside_the_kernel

# By name: threads, and whether all of them are always taken.
WAYS = {"chosen": (2, False), "always two": (2, True), "one": (1, False)}
ALWAYS = "L2L_ALWAYS"


def neighbour(repeats: int) -> pd.DataFrame:
    """Milliseconds of a step, by neighbours and by how many threads the kernel takes."""
    rows = []
    for neighbours in (0, 1):
        with _busy(neighbours):
            for name, (threads, always) in WAYS.items():
                command = [sys.executable, "-m", "benchmarks.neighbour", str(repeats)]
                settings = {"OMP_NUM_THREADS": str(threads), ALWAYS: "1" if always else ""}
                told = subprocess.run(
                    command, env={**os.environ, **settings}, capture_output=True, check=True
                ).stdout.split()
                times = dict(zip(("meta-training", "evaluation"), map(float, told), strict=True))
                rows.append({"busy neighbours": neighbours, "threads": name, **times})
    return pd.DataFrame(rows)


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    """Processes that never wait."""
    command = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(command) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@torch.no_grad()
def main(repeats: int) -> None:
    """Measure in this process, and print."""
    keep_freed_memory()
    objective, optimizer = Objective(MLP(), [0], "train", 1), learned()
    with one_thread_beside_the_kernel():
        for function in (by_suite, evaluate):
            call = functools.partial(function, objective, optimizer)
            times = [seconds(call) for _ in range(10 * repeats)]
            print(1e3 * median(times[2:]) / WINDOW)


if __name__ == "__main__":
    always = patch.object(Team, "run", lambda self, kind, work, most, call: call(most))
    with always if os.environ.get(ALWAYS) else nullcontext():
        main(int(sys.argv[1]))
