"""`make soak`: faults injected, and how many a run survived; exit code 1 if any was not."""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.soak.damage import damages
from benchmarks.soak.disk import full_disks
from benchmarks.soak.folder import tables, write_experiments
from benchmarks.soak.kills import kills_at_any_time, kills_in_each_phase, two_on_one_folder
from benchmarks.soak.process import DONE, Task, complete
from benchmarks.soak.trial import Bench, Tally


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kills at a change of a file")
    parser.add_argument("--timed", type=int, default=20, help="kills at any time, of each kind")
    parser.add_argument("--damages", type=int, default=200, help="files damaged")
    parser.add_argument("--disks", type=int, default=20, help="disks filled")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of runs into one folder")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed and damaged")
    parser.add_argument("--ray", type=int, default=10, help="the same on Ray, if it is installed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        names = write_experiments(folder)
        whole = Task(names, folder / "undisturbed" / "results")
        ended = complete(whole)
        if ended.code != DONE:
            print(f"the undisturbed run failed: {ended.text}", file=sys.stderr)
            return 1

        def bench(kind: str, executor: str = "local") -> Bench:
            # Each kind of fault has chance of its own, so that numbers of others change nothing.
            chance = random.Random(f"{given.seed} {kind}")
            return Bench(folder / kind, names, tables(whole.root), chance, executor)

        on_ray = given.ray if importlib.util.find_spec("ray") else 0
        trials: list[Callable[[], Tally]] = [
            lambda: kills_in_each_phase(bench("kills"), given.kills),
            lambda: damages(bench("damages"), given.damages),
            lambda: full_disks(bench("disks"), given.disks),
            lambda: two_on_one_folder(bench("pairs"), given.pairs),
            lambda: kills_at_any_time(bench("timed-1"), given.timed, 1, worker=False),
            lambda: kills_at_any_time(bench("timed-2"), given.timed, 2, worker=False),
            lambda: kills_at_any_time(bench("timed-w"), given.timed, 2, worker=True),
            lambda: kills_at_any_time(bench("ray", "ray"), on_ray, 2, worker=False),
            lambda: kills_at_any_time(bench("ray-w", "ray"), on_ray, 2, worker=True),
        ]
        print("| fault | injected | survived | differences | seconds |")
        print("| --- | --- | --- | --- | --- |", flush=True)
        wrong = 0
        for trial in trials:
            started = time.monotonic()
            tally = trial()
            seconds = time.monotonic() - started
            bad = min(len(tally.wrong), tally.injected)
            row = f"| {tally.kind} | {tally.injected} | {tally.injected - bad} "
            print(f"{row}| {len(tally.wrong)} | {seconds:.0f} |", flush=True)
            wrong += len(tally.wrong)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
