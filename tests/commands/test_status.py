"""What is told of a results folder, and what is deleted from it."""

from __future__ import annotations

import errno
import itertools
import os
import platform
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import command
from fake_kinds import fake_kind
from filelock import FileLock

from l2l.suite.commands.clean import delete_cells, find_cells
from l2l.suite.commands.request import save_planned
from l2l.suite.commands.status import Status, status_of
from l2l.suite.commands.tell import duration, print_status
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.kind import Job
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.places import CELLS, LOCKS
from l2l.suite.files.progress import CellProgress
from l2l.suite.files.storage import StorageError
from l2l.suite.plan.cells import Cell, make_cell
from l2l.suite.plan.plan import Curve, Plan
from l2l.suite.run.folder import open_results
from l2l.suite.run.locks import at_work, owned
from l2l.suite.run.records import record_of
from l2l.suite.run.store import run_cell


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def work(job: Job) -> None:
        if job.config.get("fails"):
            raise SuiteError("no luck today")
        write_text_atomic(job.folder / "out.txt", "x" * 100)

    for kind in ("tune", "evaluate"):
        fake_kind(monkeypatch, work, kind)
    open_results(tmp_path)
    return tmp_path


def cell(kind: str, steps: int, *inputs: Cell, **config: object) -> Cell:
    return make_cell(kind, f"steps-{steps}", {"steps": steps, "instances": 2, **config}, inputs)


def plan(*cells: Cell) -> Plan:
    curves = tuple(Curve("e", "p", each.name, each) for each in cells)
    return Plan((), curves, cells)


def states(status: Status) -> dict[str, str]:
    return {each.cell: each.state for each in status.cells}


def test_each_state_is_told(root: Path) -> None:
    done, failed, missing = cell("tune", 1), cell("tune", 2, fails=True), cell("tune", 3)
    running = cell("tune", 4)
    run_cell(done, root, "cpu")
    run_cell(failed, root, "cpu")
    with FileLock(root / CELLS / LOCKS / f"{running.label}.lock"):
        found = status_of(plan(done, failed, missing, running), root)
    assert found.counts == {"done": 1, "running": 1, "failed": 1, "missing": 1}
    assert states(found)[failed.label] == "failed"
    assert next(each.note for each in found.cells if each.state == "failed") == "no luck today"


def test_time_left_is_estimated_from_finished_cells_of_the_same_kind(root: Path) -> None:
    done, double, other = cell("tune", 10), cell("tune", 20), cell("evaluate", 10)
    run_cell(done, root, "cpu")
    record = done.folder(root) / "cell.json"
    text = record.read_text()
    start = text.index('"seconds": ')
    record.write_text(text[:start] + '"seconds": 3.0' + text[text.index(",", start) :])
    found = status_of(plan(done, double, other), root)
    assert found.seconds_left == 6.0
    assert found.unknown == 1


def test_time_left_is_unknown_where_no_cell_has_an_estimate(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_status(status_of(plan(cell("tune", 1), cell("tune", 2)), root))
    assert "2 missing; time left unknown\n" in capsys.readouterr().out
    run_cell(cell("tune", 1), root, "cpu")
    print_status(status_of(plan(cell("tune", 1), cell("tune", 2), cell("evaluate", 1)), root))
    assert " of work left, and 1 cells without an estimate\n" in capsys.readouterr().out


def test_running_cell_tells_its_own_time_left(root: Path) -> None:
    running = cell("tune", 10)
    running.folder(root).mkdir()
    progress = CellProgress(running.folder(root))
    progress._before, progress._written = 30.0, -10.0
    progress(3, 4, "validation 0.5")
    with FileLock(root / CELLS / LOCKS / f"{running.label}.lock"):
        (told,) = status_of(plan(running), root).cells
    assert told.seconds_left == pytest.approx(10, abs=1)
    assert told.note == "3/4 validation 0.5; another process"


def test_who_works_on_a_cell_is_told_while_the_lock_is_held(root: Path) -> None:
    running = cell("tune", 10)
    lock = root / CELLS / LOCKS / f"{running.label}.lock"
    with FileLock(lock), owned(lock.with_suffix(".json")):
        (told,) = status_of(plan(running), root).cells
        assert f"process {os.getpid()} on {platform.node()} since 20" in told.note
        assert run_cell(running, root, "cpu").state == "busy"
    assert not lock.with_suffix(".json").exists()


def test_owner_that_was_killed_is_no_longer_told(root: Path) -> None:
    dead = cell("tune", 10)
    stale = root / CELLS / LOCKS / f"{dead.label}.json"
    stale.write_text('{"host": "gone", "pid": 1, "since": "2020-01-01"}')
    assert states(status_of(plan(dead), root))[dead.label] == "missing"
    assert run_cell(dead, root, "cpu").state == "done"
    assert not stale.exists()


def test_disk_use_is_told(root: Path) -> None:
    run_cell(cell("tune", 1), root, "cpu")
    found = status_of(plan(cell("tune", 1)), root)
    assert found.bytes > 100
    assert found.bytes_free > 0


def test_deleted_cell_that_nothing_needs_is_not_missing(root: Path) -> None:
    tuned = cell("tune", 1)
    curve = cell("evaluate", 1, tuned)
    run_cell(curve, root, "cpu")
    found = status_of(Plan((), plan(curve).curves, (tuned, curve)), root)
    assert states(found) == {curve.label: "done"}


def test_clean_finds_by_kind_age_and_use(root: Path) -> None:
    one, two = cell("tune", 1), cell("evaluate", 1)
    for each in (one, two):
        run_cell(each, root, "cpu")
    names: Callable[..., set[str]] = lambda *by: {  # noqa: E731
        each.folder.name for each in find_cells(root, *by)
    }
    assert names(None, None, ()) == {one.label, two.label}
    assert names("tune", None, ()) == {one.label}
    assert names(None, None, (one.label,)) == {two.label}
    assert names(None, "1h", ()) == set()
    for path in (one.folder(root), *one.folder(root).iterdir()):
        os.utime(path, (0, 0))
    assert names(None, "1h", ()) == {one.label}


def test_clean_deletes_nothing_but_cells(root: Path) -> None:
    mine = cell("tune", 1)
    run_cell(mine, root, "cpu")
    (root / CELLS / "my-notes").mkdir()
    delete_cells(find_cells(root, None, None, ()), root)
    assert not mine.folder(root).exists()
    assert (root / CELLS / "my-notes").exists()


def test_clean_leaves_a_cell_at_work_alone(root: Path) -> None:
    mine = cell("tune", 1)
    run_cell(mine, root, "cpu")
    found = find_cells(root, None, None, ())
    with FileLock(root / CELLS / LOCKS / f"{mine.label}.lock"):
        assert find_cells(root, None, None, ()) == []
        delete_cells(found, root)  # found before it was at work
    assert record_of(mine, root) is not None


def test_clean_keeps_all_that_a_run_under_way_needs(root: Path) -> None:
    needed, other = cell("tune", 1), cell("tune", 2)
    for each in (needed, other):
        run_cell(each, root, "cpu")
    following = cell("evaluate", 1, needed)
    save_planned(Plan((), plan(following).curves, (needed, following)), root)
    following.folder(root).mkdir()
    with FileLock(root / CELLS / LOCKS / f"{following.label}.lock"):
        assert command("clean", "--results", root, "--yes").exit_code == 0
    assert record_of(needed, root) is not None
    assert not other.folder(root).exists()


def test_clean_keeps_what_a_run_needs_that_began_while_it_asked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed, other = cell("tune", 1), cell("tune", 2)
    for each in (needed, other):
        run_cell(each, root, "cpu")
    save_planned(plan(needed), root)
    with ExitStack() as run:
        monkeypatch.setattr(typer, "confirm", lambda _: run.enter_context(at_work(root)) is None)
        assert command("clean", "--results", root).exit_code == 0
    assert record_of(needed, root) is not None
    assert not other.folder(root).exists()


def refuse_locks(monkeypatch: pytest.MonkeyPatch, reading: bool) -> None:
    """Locks are another user's, who lets others read them or not; root would not be refused."""
    os_open, path_open = os.open, Path.open

    def refuse(path: object, flags: int) -> None:
        if str(path).endswith(".lock") and (flags & os.O_RDWR or not reading):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def patched_os(path: str, flags: int, *rest: Any, **named: Any) -> int:
        refuse(path, flags)
        return os_open(path, flags, *rest, **named)

    def patched_path(path: Path, *rest: Any, **named: Any) -> Any:
        refuse(path, os.O_RDONLY)
        return path_open(path, *rest, **named)

    monkeypatch.setattr(os, "open", patched_os)
    monkeypatch.setattr(Path, "open", patched_path)


def test_cell_of_another_user_at_work_is_told_and_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, done = cell("tune", 1), cell("tune", 2)
    running.folder(root).mkdir()
    run_cell(done, root, "cpu")
    with FileLock(root / CELLS / LOCKS / f"{running.label}.lock"):
        refuse_locks(monkeypatch, reading=True)
        found = states(status_of(plan(running, done), root))
        assert found == {running.label: "running", done.label: "done"}
        assert [each.folder.name for each in find_cells(root, None, None, ())] == [done.label]
    assert states(status_of(plan(running), root)) == {running.label: "missing"}


def test_nothing_is_told_or_deleted_where_locks_cannot_be_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, done = cell("tune", 1), cell("tune", 2)
    run_cell(done, root, "cpu")
    (root / CELLS / LOCKS / f"{mine.label}.lock").touch()
    refuse_locks(monkeypatch, reading=False)
    with pytest.raises(StorageError, match=r"lock cannot be read or locked .*is not known"):
        status_of(plan(mine), root)
    refused = command("clean", "--results", root, "--yes")
    assert refused.exit_code == 2
    assert "is not known" in refused.stderr
    assert record_of(done, root) is not None


@pytest.mark.parametrize(("look", "listing"), [("status", 1), ("clean", 1), ("clean", 2)])
def test_cell_that_goes_while_others_look_is_skipped(
    root: Path, tmp_path_factory: pytest.TempPathFactory, look: str, listing: int
) -> None:
    gone, kept = cell("tune", 1), cell("tune", 2)
    for each in (gone, kept):
        run_cell(each, root, "cpu")
    folder, elsewhere = gone.folder(root), tmp_path_factory.mktemp("elsewhere") / "gone"
    scandir, listings = os.scandir, itertools.count(1)

    def vanishing(path: Any = ".") -> Any:
        """As ever; before one of the times that the cell's folder is listed, it goes."""
        if str(path) == str(folder) and next(listings) == listing:
            folder.rename(elsewhere)
        return scandir(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", vanishing)
        if look == "status":
            assert states(status_of(plan(gone, kept), root))[kept.label] == "done"
        else:
            assert kept.label in {each.folder.name for each in find_cells(root, None, None, ())}
    assert elsewhere.exists()


def test_cell_that_is_gone_when_it_would_be_deleted_is_passed_over(root: Path) -> None:
    gone, other = cell("tune", 1), cell("tune", 2)
    for each in (gone, other):
        run_cell(each, root, "cpu")
    found = find_cells(root, None, None, ())
    shutil.rmtree(gone.folder(root))
    delete_cells(found, root)
    assert not other.folder(root).exists()


def test_emptied_folder_is_open_to_every_version(root: Path) -> None:
    mine = cell("tune", 1)
    run_cell(mine, root, "cpu")
    (root / CELLS / "version.json").write_text('{"results_version": 0}')
    delete_cells(find_cells(root, None, None, ()), root)
    open_results(root)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.25, "0.2 s"), (12.4, "12 s"), (245, "4 min 05 s"), (7380, "2 h 03 min")],
)
def test_durations_are_told_in_fitting_units(seconds: float, told: str) -> None:
    assert duration(seconds) == told
