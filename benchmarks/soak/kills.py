"""`kill -9`: before any change to any file, at any time, of a run, its workers, or one of two."""

from __future__ import annotations

import os
import signal
import time

from benchmarks.soak.folder import PHASES, finished, starts
from benchmarks.soak.process import DONE, changes, complete, finish, killed_after, killed_at, start
from benchmarks.soak.trial import Bench, Tally

KILLED = -signal.SIGKILL


def kills_in_each_phase(bench: Bench, number: int) -> Tally:
    """Kills before a drawn change to the files of a drawn phase; each resumes the one before."""
    tally = Tally("kill -9 at a change of a file")
    if number == 0:
        return tally
    sizes = changes(bench.task())
    while tally.injected < number:
        task = bench.task()
        while tally.injected < number:
            phase = bench.chance.choice(PHASES)
            before = finished(task.root)
            ended = killed_at(task, phase, bench.chance.randint(1, sizes[phase]))
            if ended.code == DONE:
                # What it was to be killed in was finished before.
                break
            tally.injected += 1
            if ended.code != KILLED:
                tally.blame(f"code {ended.code} in {phase}: {ended.text[-2000:]}")
            bench.check_whole(task, before, tally)
        bench.check_tables(task, tally)
    return tally


def kills_at_any_time(bench: Bench, number: int, jobs: int, worker: bool) -> Tally:
    """Kills after a drawn time, of the whole run or of one of its worker processes."""
    where = f"{bench.executor}, jobs {jobs}{', a worker' if worker else ''}"
    tally = Tally(f"kill -9 at any time, {where}")
    if number == 0:
        return tally
    trial = bench.task(jobs)
    started = time.monotonic()
    complete(trial)
    longest = time.monotonic() - started
    while tally.injected < number:
        task = bench.task(jobs)
        before = finished(task.root)
        ended, hit = killed_after(task, bench.chance.uniform(0, longest), worker)
        tally.injected += hit
        if ended.code not in ((DONE,) if worker else (DONE, KILLED)):
            tally.blame(f"code {ended.code}: {ended.text[-2000:]}")
        bench.check_whole(task, before, tally)
        bench.check_tables(task, tally)
    return tally


def two_on_one_folder(bench: Bench, number: int) -> Tally:
    """Two runs at once into one folder; in every second trial one of them is killed."""
    tally = Tally("two processes on one folder")
    while tally.injected < number:
        task = bench.task()
        first, second = start(task), start(task)
        kill = tally.injected % 2 == 1
        if kill:
            time.sleep(bench.chance.uniform(0.2, 4))
            os.kill(first, signal.SIGKILL)
        before = finished(task.root) if kill else {}
        codes = [finish(task, pid).code for pid in (first, second)]
        tally.injected += 1
        if codes[1] != DONE or codes[0] not in ((DONE, KILLED) if kill else (DONE,)):
            tally.blame(f"codes {codes}")
        bench.check_whole(task, before, tally)
        if not kill:
            for label, count in starts(task.root).items():
                if count != 1:
                    tally.blame(f"{label} was computed {count} times")
        bench.check_tables(task, tally)
    return tally
