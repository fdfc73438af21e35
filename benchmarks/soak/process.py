"""A run in a process of its own that can be killed at a chosen moment.

The process is forked from one that has imported everything and computed nothing, so a run costs
no start of PyTorch. `python reproduce.py run` does the same calls.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.soak.folder import phase_of
from l2l.suite.commands.request import Request, plan_request, saved_request
from l2l.suite.commands.run import run
from l2l.suite.commands.status import status_of
from l2l.suite.core.errors import SuiteError

DONE, FAILED, REFUSED, CRASHED = 0, 1, 2, 70
CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


@dataclass(frozen=True)
class Task:
    """A run: what, where, and how; or with `status`, a look at where it stands."""

    names: tuple[str, ...]
    root: Path
    jobs: int = 1
    executor: str = "local"
    status: bool = False


@dataclass(frozen=True)
class Ended:
    """How a run's process ended: its exit code, negative for a signal, and what it printed."""

    code: int
    text: str


def start(task: Task, prepare: Callable[[], object] | None = None) -> int:
    """Begin a run; its process id. `prepare` is called in the new process first."""
    task.root.parent.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    code = CRASHED
    try:
        os.setpgid(0, 0)
        output = os.open(_output(task, os.getpid()), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if prepare is not None:
            prepare()
        code = _run(task)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def finish(task: Task, pid: int) -> Ended:
    """Wait for a run's process."""
    _, status = os.waitpid(pid, 0)
    path = _output(task, pid)
    text = path.read_text(encoding="utf-8")
    path.unlink()
    return Ended(os.waitstatus_to_exitcode(status), text)


def complete(task: Task, prepare: Callable[[], object] | None = None) -> Ended:
    """Begin a run and wait for it."""
    return finish(task, start(task, prepare))


def killed_at(task: Task, phase: str, change: int) -> Ended:
    """A run that is killed before its change number `change` (from 1) to files of a phase."""
    return complete(task, lambda: _die_before(task.root, phase, change))


def killed_after(task: Task, seconds: float, worker: bool) -> tuple[Ended, bool]:
    """A run that is killed after a time, or its newest worker process while it goes on.

    Returns:
        How it ended, and whether there was anything to kill by then.
    """
    pid = start(task)
    time.sleep(seconds)
    victims = _workers(pid) if worker else [pid]
    with suppress(ProcessLookupError):
        for victim in victims[-1:]:
            os.kill(victim, signal.SIGKILL)
    return finish(task, pid), bool(victims)


def changes(task: Task) -> dict[str, int]:
    """How many changes a whole run makes to the files of each phase."""
    tally = task.root.parent / "changes.txt"
    complete(task, lambda: _count(task.root, tally))
    found = tally.read_text(encoding="utf-8").split()
    tally.unlink()
    return {phase: found.count(phase) for phase in dict.fromkeys(found)}


def _run(task: Task) -> int:
    try:
        if task.status:
            status_of(plan_request(saved_request(task.root)), task.root)
            return DONE
        request = Request(task.names, "smoke")
        ended = run(request, task.root, "cpu", task.executor, task.jobs)
    except SuiteError as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    for label, sentence in ended.failed.items():
        print(f"failed: {label}: {sentence}", file=sys.stderr)
    return FAILED if ended.failed else DONE


def _die_before(root: Path, phase: str, change: int) -> None:
    left = change

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if _phase(root, event, arguments) == phase:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _count(root: Path, tally: Path) -> None:
    file = os.open(tally, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        phase = _phase(root, event, arguments)
        if phase is not None:
            os.write(file, f"{phase}\n".encode())

    sys.addaudithook(hook)


def _phase(root: Path, event: str, arguments: tuple[object, ...]) -> str | None:
    if event not in CHANGES or not isinstance(arguments[0], str | bytes | os.PathLike):
        return None
    return phase_of(Path(os.fsdecode(arguments[0])), root)


def _workers(pid: int) -> list[int]:
    """Processes that compute cells for the run `pid`, the newest last."""
    pending, found = _children(pid), []
    while pending:
        each = pending.pop()
        pending += _children(each)
        # Ray names a worker after its task; what else runs looks after workers, or after a cluster.
        command = _command(each)
        if b"spawn_main" in command or command.startswith((b"ray::run_", b"ray::travel")):
            found.append(each)
    return sorted(found)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    """Processes that `pid` started."""
    try:
        return [
            int(word)
            for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        ]
    except OSError:
        return []


def _output(task: Task, pid: int) -> Path:
    return task.root.parent / f"output-{pid}.txt"
