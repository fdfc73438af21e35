"""The results folder: nothing is computed twice, lost, or read half-written."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_kinds import fake_kind
from forked import forked

import l2l.suite.run.records
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.kind import Job, Kind
from l2l.suite.core.registry import kinds, register_kind
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.places import CELLS
from l2l.suite.files.progress import Step, read_progress
from l2l.suite.files.storage import StorageError, storage_cause
from l2l.suite.plan.cells import Cell, make_cell
from l2l.suite.run.executors import in_process
from l2l.suite.run.folder import open_results
from l2l.suite.run.records import failure_of, state_of, unfinished
from l2l.suite.run.scheduler import run_all
from l2l.suite.run.store import Outcome, run_cell
from l2l.suite.run.workers import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    open_results(tmp_path)
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Configurations that the fake kind of cell was run with; each writes `out.txt`."""
    seen: list[str] = []

    def work(job: Job) -> None:
        seen.append(job.config["text"])
        write_text_atomic(job.folder / "out.txt", job.config["text"])

    fake_kind(monkeypatch, work)
    return seen


def fake(text: str = "a", *inputs: Cell) -> Cell:
    return make_cell("fake", text, {"text": text}, inputs)


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def work(job: Job) -> None:
        write_text_atomic(job.folder / "half.txt", "half")
        raise error

    fake_kind(monkeypatch, work)


def test_finished_cell_is_not_computed_again(root: Path, calls: list[str]) -> None:
    assert state_of(fake(), root) == "missing"
    assert run_cell(fake(), root, "cpu").state == "done"
    assert state_of(fake(), root) == "done"
    assert run_cell(fake(), root, "cpu").seconds == 0
    assert calls == ["a"]


def test_record_leads_to_configuration_and_versions(root: Path, calls: list[str]) -> None:
    run_cell(fake(), root, "cpu")
    record = json.loads((fake().folder(root) / "cell.json").read_text())
    assert record["config"] == {"text": "a"}
    assert set(record["versions"]) == {"python", "torch", "numpy"}
    assert list(record["files"]) == ["out.txt"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "out.txt").write_text("b"),
        lambda folder: (folder / "out.txt").unlink(),
        lambda folder: (folder / "cell.json").write_text("{"),
        lambda folder: (folder / "cell.json").write_text("[]"),
        lambda folder: (folder / "cell.json").write_text('{"key": 1}'),
    ],
)
def test_damaged_cell_is_computed_again(
    root: Path, calls: list[str], damage: Callable[[Path], None]
) -> None:
    run_cell(fake(), root, "cpu")
    damage(fake().folder(root))
    assert state_of(fake(), root) == "missing"
    assert run_cell(fake(), root, "cpu").state == "done"
    assert calls == ["a", "a"]
    assert (fake().folder(root) / "out.txt").read_text() == "a"


def test_cell_that_cannot_be_read_for_now_is_left_alone(
    root: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cell(fake(), root, "cpu")
    kept = (fake().folder(root) / "out.txt").read_bytes()

    def stale(path: Path) -> str:
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(l2l.suite.run.records, "current_digest", stale)
        with pytest.raises(StorageError, match=r"out\.txt cannot be read \(Stale file handle\)"):
            run_cell(fake(), root, "cpu")
    assert (fake().folder(root) / "out.txt").read_bytes() == kept
    assert state_of(fake(), root) == "done"
    assert calls == ["a"]


def test_files_of_other_programs_are_no_results(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(job: Job) -> None:
        (job.folder / ".log.txt.swp").write_text("an editor's")

    fake_kind(monkeypatch, work)
    run_cell(fake(), root, "cpu")
    (fake().folder(root) / ".log.txt.swp").unlink()
    assert state_of(fake(), root) == "done"


def test_leftovers_of_a_killed_process_are_swept_and_its_state_is_kept(
    root: Path, calls: list[str]
) -> None:
    folder = fake().folder(root)
    folder.mkdir()
    (folder / ".out.1a2b.txt").write_text("half")
    (folder / "state.txt").write_text("resumable")
    (folder / ".ipynb_checkpoints").mkdir()
    run_cell(fake(), root, "cpu")
    assert not (folder / ".out.1a2b.txt").exists()
    assert (folder / "state.txt").read_text() == "resumable"


def test_failed_cell_keeps_its_sentence_and_is_tried_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, SuiteError("the loss is not finite at θ_0"))
    assert run_cell(fake(), root, "cpu").error == "the loss is not finite at θ_0"
    assert state_of(fake(), root) == "failed"
    assert failure_of(fake(), root) == "the loss is not finite at θ_0"
    fake_kind(monkeypatch, lambda job: None)
    assert run_cell(fake(), root, "cpu").state == "done"


def test_unexpected_failure_leaves_a_traceback_in_the_cells_log(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, ZeroDivisionError("oh"))
    error = run_cell(fake(), root, "cpu").error
    assert error.startswith("ZeroDivisionError: oh (")
    assert "test_cells.py, line" in error
    assert "Traceback" in (fake().folder(root) / "log.txt").read_text()


def test_folder_of_another_version_is_refused(root: Path) -> None:
    (root / CELLS / "version.json").write_text('{"results_version": 0}')
    with pytest.raises(SuiteError, match="results version 0 made this folder, but this is version"):
        open_results(root)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_full_or_read_only_disk_stops_the_run_in_one_sentence(
    root: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    run_cell(fake("before"), root, "cpu")

    def refuse(source: object, target: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(StorageError, match=f"cannot be written to .{os.strerror(code)}."):
            run_cell(fake("after"), root, "cpu")
    assert state_of(fake("before"), root) == "done"
    assert state_of(fake("after"), root) == "missing"


def test_unreadable_data_is_the_cells_failure_and_not_the_folders(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, PermissionError(errno.EACCES, "Permission denied", "/data/images"))
    assert run_cell(fake(), root, "cpu").state == "failed"


def test_file_that_a_cell_itself_misses_is_its_own_failure(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_kind(monkeypatch, lambda job: (job.folder / "lacking.csv").read_text())
    outcome = run_cell(fake(), root, "cpu")
    assert "FileNotFoundError" in outcome.error
    assert state_of(fake(), root) == "failed"


@pytest.mark.parametrize(
    ("name", "root", "is_its"),
    [
        ("results/cells/a", "results", True),
        ("results/cells/a", ".", True),
        (b"results/cells/a", "results", True),
        ("results2/cells/a", "results", False),
        (3, "results", False),
        (None, "results", False),
    ],
)
def test_error_is_the_folders_if_it_is_about_a_file_in_it(
    name: object, root: str, is_its: bool
) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", name)
    assert storage_cause(error, Path(root)) is (error if is_its else None)


def test_results_folder_that_is_gone_stops_the_run(root: Path, tmp_path: Path) -> None:
    gone = FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "gone" / "a"))
    assert storage_cause(gone, tmp_path / "gone") is gone
    assert storage_cause(gone, root) is None


def test_results_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SuiteError, match="cannot be written to"):
        open_results(tmp_path / "file")


def test_what_is_done_needs_no_inputs_any_more(root: Path, calls: list[str]) -> None:
    first = fake("first")
    second = fake("second", first)
    assert [cell.name for cell in unfinished([second], root)] == ["first", "second"]
    run_cell(second, root, "cpu")
    assert unfinished([second], root) == ()


def test_names_never_leave_the_folder() -> None:
    cell = make_cell("tune", "../../etc/Näme x", {})
    assert cell.folder(Path("root")).parent == Path("root") / CELLS
    assert cell.label.startswith("tune-etc-n-me-x-")


def run_slow_cell(root: Path) -> None:
    """In a process of its own."""

    def work(job: Job) -> None:
        job.progress(1, 4, "on its way")
        print("at work", flush=True)
        time.sleep(60)

    with pytest.MonkeyPatch.context() as patch:
        fake_kind(patch, work)
        run_cell(fake(), root, "cpu")


def test_lock_keeps_others_out_and_is_free_once_its_owner_is_killed(
    root: Path, calls: list[str]
) -> None:
    printed = root / "printed"
    with forked(printed, run_slow_cell, root) as owner:
        while not printed.exists() or printed.read_text() != "at work\n":
            assert owner.is_alive(), printed.read_text()
            time.sleep(0.02)
        assert state_of(fake(), root) == "running"
        assert run_cell(fake(), root, "cpu").state == "busy"
        assert read_progress(fake().folder(root)).pid == owner.pid
    deadline = time.monotonic() + 5
    while state_of(fake(), root) == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run_cell(fake(), root, "cpu").state == "done"
    assert calls == ["a"]


def test_files_that_a_kind_leaves_are_there_and_told_of(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_kind(monkeypatch, lambda job: None, leaves=("out.txt",))
    ended = run_cell(fake(), root, "cpu")
    assert (ended.state, ended.error) == ("failed", "Fake.run must leave out.txt, but did not")
    fake_kind(monkeypatch, lambda job: write_text_atomic(job.folder / "out.txt", ""))
    assert run_cell(fake(), root, "cpu").state == "done"
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    for name in set(kinds) - {"fake"}:
        assert all(f"`{file}`" in rows[name] for file in kinds.cls(name).leaves), name


def test_ready_cells_of_the_highest_priority_come_first(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    for name, priority in (("low", 1), ("high", 2)):
        fake_kind(
            monkeypatch, lambda job: order.append(job.config["text"]), name, priority=priority
        )
    cells = [make_cell(kind, text, {"text": text}) for kind, text in (("low", "a"), ("high", "b"))]
    with in_process(Settings(root, "cpu")) as workers:
        run_all(cells, root, workers, Mute())
    assert order == ["b", "a"]


class Mute:
    """A display that shows nothing."""

    def progress(self, cell: Cell, step: Step) -> None:
        """Nothing."""

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """Nothing."""


@pytest.mark.parametrize("name", ["two-words", "Upper", ""])
def test_kind_whose_cells_could_not_be_told_by_their_folders_is_refused(name: str) -> None:
    with pytest.raises(SuiteError, match="consist of the letters a to z"):
        register_kind(name)(Kind)
