"""A step of meta-training and of evaluation beside a process that takes a processor for itself.

`python -m benchmarks.neighbour child` measures one setting and prints its milliseconds; it is a
process of its own, because OpenMP reads how long to spin when it is loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median

import pandas as pd

STEPS = 20
# What the environment of each process says.
WAYS: dict[str, dict[str, str]] = {
    "two": {},
    "spin 30000": {"GOMP_SPINCOUNT": "30000"},
    "one": {"OMP_NUM_THREADS": "1"},
}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Processes that never wait."""
    command = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(command) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(environment: Mapping[str, str], repeats: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.neighbour", "child", str(repeats)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    out = subprocess.run(
        command, env={**kept, **environment}, capture_output=True, text=True, check=True
    ).stdout
    print(out); train, _, evaluate, _ = map(float, out.split())
    return train, evaluate


def neighbour(repeats: int) -> pd.DataFrame:
    rows = []
    for neighbours in (0, 1):
        with busy(neighbours):
            for name, environment in WAYS.items():
                train, evaluate = measure(environment, repeats)
                rows.append({"neighbours": neighbours, "threads": name, "train": train, "evaluate": evaluate})
                print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def child(repeats: int) -> None:
    import torch

    from benchmarks.window import by_suite, evaluate, learned
    from l2l.problems.mlp import MLP
    from l2l.suite.inner.objective import Objective
    from l2l.suite.inner.process import keep_freed_memory, one_thread_beside_the_kernel

    keep_freed_memory()
    objective = Objective(MLP(), [0], "train", 1)
    optimizer = learned()
    for function in (by_suite, evaluate):
        times = []
        for i in range(repeats + 5):
            begin = time.perf_counter()
            with torch.no_grad(), one_thread_beside_the_kernel():
                function(objective, optimizer, STEPS)
            if i >= 5:
                times.append(time.perf_counter() - begin)
        print(1e3 * median(times) / STEPS, 1e3 * sum(times) / len(times) / STEPS)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(int(sys.argv[2]))
    else:
        print(neighbour(40))
