"""Executors and the scheduler: independence of failures, several processes, interruptions."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_kinds import fake_kind, forget_kinds
from forked import forked

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.plugins import load_plugin
from l2l.suite.files.progress import Step
from l2l.suite.files.storage import StorageError
from l2l.suite.plan.cells import Cell, make_cell
from l2l.suite.run.executors import local
from l2l.suite.run.folder import open_results
from l2l.suite.run.records import failure_of, state_of
from l2l.suite.run.scheduler import run_all
from l2l.suite.run.store import Outcome
from l2l.suite.run.workers import Settings

# A kind of cell whose configuration says what to do; the worker processes import it as a plugin.
PLUGIN = """
import os
import time
from pathlib import Path

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.atomic import write_text_atomic
from l2l import Kind, register_kind


def work(job):
    config = job.config
    with (job.folder.parents[1] / "calls.txt").open("a") as calls:
        calls.write(config["text"] + "\\n")
    if config.get("fails"):
        raise SuiteError(config["fails"])
    if config.get("dies") and (config["dies"] == "always" or not (job.folder / "died").exists()):
        (job.folder / "died").touch()
        os._exit(9)
    job.progress(0, 1, "")
    time.sleep(config.get("seconds", 0))
    parts = [(folder / "out.txt").read_text() for folder in job.inputs]
    write_text_atomic(job.folder / "out.txt", config["text"] + "".join(parts))


@register_kind("fake")
class Fake(Kind):
    def run(self, job):
        work(job)
"""


class Seen:
    """A display that remembers."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def progress(self, cell: Cell, step: Step) -> None:
        """Nothing to remember."""

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """Remember the order."""
        self.order.append(cell.name)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Settings]:
    plugin = tmp_path / "fake_kind.py"
    plugin.write_text(PLUGIN)
    # So that the kind is gone after the test.
    forget_kinds(monkeypatch)
    load_plugin(plugin)
    open_results(tmp_path / "results")
    return lambda jobs: Settings(tmp_path / "results", "cpu", jobs, (plugin,))


def fake(text: str, *inputs: Cell, **config: object) -> Cell:
    return make_cell("fake", text, {"text": text, **config}, inputs)


def run(cells: list[Cell], settings: Settings) -> tuple[dict[str, Outcome], list[str]]:
    seen = Seen()
    with local(settings) as workers:
        outcomes = run_all(cells, settings.root, workers, seen)
    return {cell.name: outcomes[cell.key] for cell in cells if cell.key in outcomes}, seen.order


def calls(settings: Settings) -> list[str]:
    return (settings.root / "calls.txt").read_text().split()


def test_failed_cell_stops_what_needs_it_and_nothing_else(
    settings: Callable[[int], Settings],
) -> None:
    bad = fake("bad", fails="no luck today")
    good = fake("good")
    cells = [bad, good, fake("behind", bad), fake("after", good), fake("last", fake("before"))]
    outcomes, order = run([*cells, fake("before")], settings(1))
    assert outcomes["bad"].error == "no luck today"
    assert "behind" not in outcomes
    assert {name for name, outcome in outcomes.items() if outcome.state == "done"} == {
        "good",
        "after",
        "before",
        "last",
    }
    assert order.index("good") < order.index("after")
    root = settings(1).root
    assert (fake("after", good).folder(root) / "out.txt").read_text() == "aftergood"


def test_cell_of_a_worker_that_dies_is_resumed_by_another(
    settings: Callable[[int], Settings],
) -> None:
    bad = fake("bad", fails="no luck today")
    cells = [fake("victim", dies=True), fake("other"), bad, fake("behind", bad)]
    outcomes, _ = run(cells, settings(2))
    states = {name: outcome.state for name, outcome in outcomes.items()}
    assert states == {"victim": "done", "other": "done", "bad": "failed"}
    assert calls(settings(2)).count("victim") == 2


def test_cell_that_kills_its_workers_fails_alone_and_is_told_of(
    settings: Callable[[int], Settings],
) -> None:
    deadly, healthy = fake("deadly", dies="always"), fake("healthy", seconds=4)
    outcomes, _ = run([deadly, healthy], settings(2))
    assert outcomes["healthy"].state == "done"
    assert calls(settings(2)).count("healthy") == 1
    assert "died 2 times" in outcomes["deadly"].error
    assert state_of(deadly, settings(2).root) == "failed"
    assert "died 2 times" in failure_of(deadly, settings(2).root)


def test_plugin_that_no_longer_loads_ends_the_run_in_its_own_sentence(
    settings: Callable[[int], Settings],
) -> None:
    own = settings(2)
    own.plugins[0].write_text("import nowhere_to_be_found")
    with pytest.raises(SuiteError, match=r"plugin .*fake_kind\.py: .*nowhere_to_be_found"):
        run([fake("a")], own)


def test_full_disk_stops_everything(
    settings: Callable[[int], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(job: object) -> None:
        raise OSError(28, "No space left on device")

    fake_kind(monkeypatch, full)
    with pytest.raises(StorageError, match="No space left"):
        run([fake("a"), fake("b")], settings(1))


def test_interrupted_workers_are_gone_at_once_and_other_processes_go_on(
    settings: Callable[[int], Settings],
) -> None:
    class Impatient(Seen):
        def progress(self, cell: Cell, step: Step) -> None:
            if step.pid:
                raise KeyboardInterrupt

    started = time.monotonic()
    slow = fake("slow", seconds=60)
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    with pytest.raises(KeyboardInterrupt), local(settings(2)) as workers:
        run_all([slow], settings(2).root, workers, Impatient())
    # The pool's own thread waits for a killed worker too, and until it has the processor again
    # nobody else is told that it is gone.
    while multiprocessing.active_children() != [other] and time.monotonic() - started < 30:
        time.sleep(0.05)
    assert multiprocessing.active_children() == [other]
    assert time.monotonic() - started < 30
    other.kill()
    other.join()
    assert state_of(slow, settings(2).root) == "missing"


def run_slow_cells(settings: Settings, seconds: float, count: int) -> None:
    """In a process of its own, which prints how they ended."""
    for plugin in settings.plugins:
        load_plugin(plugin)
    cells = [fake(f"cell{n}", seconds=seconds) for n in range(count)]
    outcomes, _ = run(cells, settings)
    print(sorted(outcome.state for outcome in outcomes.values()))


def test_two_processes_on_one_folder_compute_each_cell_once(
    settings: Callable[[int], Settings], tmp_path: Path
) -> None:
    printed = [tmp_path / "first", tmp_path / "second"]
    first, second = (forked(path, run_slow_cells, settings(1), 0.1, 12) for path in printed)
    with first as one, second as other:
        one.join(60)
        other.join(60)
    assert [path.read_text() for path in printed] == [f"{['done'] * 12}\n"] * 2
    assert sorted(calls(settings(1))) == sorted(f"cell{n}" for n in range(12))


def test_workers_end_with_a_parent_that_is_killed(
    settings: Callable[[int], Settings], tmp_path: Path
) -> None:
    cells = [fake(f"cell{n}", seconds=60.0) for n in range(2)]
    root = settings(2).root
    with forked(tmp_path / "printed", run_slow_cells, settings(2), 60.0, 2) as owner:
        wait_for(lambda: all(state_of(cell, root) == "running" for cell in cells))
        owner.kill()
    wait_for(lambda: all(state_of(cell, root) == "missing" for cell in cells))


def wait_for(condition: Callable[[], bool], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
