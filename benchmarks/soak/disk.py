"""A disk that is full: a small file system in memory, or where that is not allowed small files."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

from benchmarks.soak.process import DONE, REFUSED, Task, complete
from benchmarks.soak.trial import Bench, Tally

ROOM = 64 * 2**20


def full_disks(bench: Bench, number: int) -> Tally:
    """Run into a disk of a drawn size, then with room enough."""
    if number == 0:
        return Tally("a full disk")
    task = bench.task()
    complete(task)
    files = [path.stat().st_size for path in task.root.rglob("*") if path.is_file()]
    mounts = _mounts(bench.task())
    tally = Tally("a full disk" if mounts else "a limit on the size of files")
    while tally.injected < number:
        task = bench.task()
        tally.injected += 1
        # Each file takes whole pages.
        most = int(1.2 * (sum(files) + 4096 * len(files))) if mounts else max(files)
        size = bench.chance.randint(16384, most)
        with _small_disk(task, size) if mounts else nullcontext():
            ended = complete(task, None if mounts else partial(_limit_files, size))
            helpful = ended.code == REFUSED and "what is finished there is kept" in ended.text
            if not helpful and ended.code != DONE:
                tally.blame(f"{size} bytes, code {ended.code}: {ended.text[-2000:]}")
            bench.check_whole(task, {}, tally)
            if mounts:
                _mount(task, ROOM, "remount")
            bench.check_tables(task, tally)
    return tally


def _mounts(task: Task) -> bool:
    """Whether this process may mount file systems."""
    try:
        with _small_disk(task, ROOM):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def _small_disk(task: Task, size: int) -> Iterator[None]:
    """A file system in memory at the task's results folder."""
    task.root.mkdir(parents=True, exist_ok=True)
    _mount(task, size)
    try:
        yield
    finally:
        subprocess.run(["umount", str(task.root)], check=True)


def _mount(task: Task, size: int, *options: str) -> None:
    words = ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"]), "tmpfs"]
    subprocess.run([*words, str(task.root)], capture_output=True, check=True)


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
