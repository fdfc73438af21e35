"""Cells on Ray: a cluster of two nodes on this machine, with and without a shared folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_kinds import fake_kind, forget_kinds
from test_executors import Seen, fake, wait_for

from l2l.suite.commands.request import Request, plan_request
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.plugins import load_plugin
from l2l.suite.files.logs import logged_to
from l2l.suite.files.storage import StorageError
from l2l.suite.plan.cells import Cell
from l2l.suite.report.collect import collect_tables, experiment_infos
from l2l.suite.run.executors import EXECUTORS
from l2l.suite.run.folder import open_results
from l2l.suite.run.locks import held, owner_of
from l2l.suite.run.ray.executor import CPUS, MEMORY, QUIET, SHARED, TRIES, not_code
from l2l.suite.run.ray.futures import translated
from l2l.suite.run.ray.travel import _Travels
from l2l.suite.run.records import state_of
from l2l.suite.run.scheduler import run_all
from l2l.suite.run.store import Outcome
from l2l.suite.run.workers import Settings, WorkerDied

os.environ.update(QUIET)
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")

ROOT = Path(__file__).parents[2]

# A kind of cell that leaves a checkpoint, then does what its configuration says.
PLUGIN = """
import os
import signal
import time

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.commands.request import Request, plan_request
from l2l import Kind, register_kind


def work(job):
    config, state = job.config, job.folder / "state.txt"
    if config.get("fails"):
        raise SuiteError(config["fails"])
    before = state.read_text() if state.exists() else ""
    write_text_atomic(state, before + "+")
    job.progress(1, 2, "half")
    if config.get("dies") and not before:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(config.get("seconds", 0))
    parts = [(folder / "out.txt").read_text() for folder in job.inputs]
    write_text_atomic(job.folder / "out.txt", config["text"] + before + "".join(parts))


@register_kind("fake")
class Fake(Kind):
    def run(self, job):
        work(job)
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Two nodes of one core each."""
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 1, "memory": 2**32, "object_store_memory": 2**27}
    nodes = Cluster()
    try:
        start_node(nodes, include_dashboard=False, **options)
        start_node(nodes, **options)
        yield nodes.address
    finally:
        nodes.shutdown()


def start_node(nodes: Any, **options: Any) -> None:
    """A node; on a busy machine Ray's processes may need more than the 30 s that it gives them."""
    for tries_left in reversed(range(TRIES)):
        try:
            nodes.add_node(**options)
            return
        except Exception as error:
            if not tries_left:
                skip_if_slow(error)
                raise


def skip_if_slow(error: Exception) -> None:
    """Nothing of ours has begun yet when Ray's own processes are too late for Ray."""
    if "timed out during startup" in str(error):
        pytest.skip("this machine is too busy for Ray to start in time")


@pytest.fixture(params=["yes", "no"])
def settings(
    request: pytest.FixtureRequest,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """A results folder that all nodes see, or of which none knows."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv(SHARED, request.param)
    return folder(tmp_path, monkeypatch)


def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    plugin = tmp_path / "fake_kind.py"
    plugin.write_text(PLUGIN)
    # So that the kind is gone after the test.
    forget_kinds(monkeypatch)
    load_plugin(plugin)
    # Another one of the same name, which is not taken for it.
    other = tmp_path / "elsewhere" / plugin.name
    other.parent.mkdir()
    other.write_text("")
    open_results(tmp_path / "results")
    return Settings(
        tmp_path / "results", "cpu", None, (plugin, other), tmp_path / "results/logs/run.log"
    )


def run(cells: list[Cell], settings: Settings) -> dict[str, Outcome]:
    assert settings.log is not None
    with logged_to(settings.log), EXECUTORS["ray"](settings) as workers:
        outcomes = run_all(cells, settings.root, workers, Seen())
    return {cell.name: outcomes[cell.key] for cell in cells if cell.key in outcomes}


def out(cell: Cell, settings: Settings) -> str:
    return (cell.folder(settings.root) / "out.txt").read_text()


def test_cells_read_inputs_die_and_resume_and_fail_alone(settings: Settings) -> None:
    first, victim, bad = fake("first"), fake("victim", dies=True), fake("bad", fails="no luck")
    last, behind = fake("last", first, victim), fake("behind", bad)
    outcomes = run([first, victim, bad, last, behind], settings)
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "first": "done",
        "victim": "done",
        "bad": "failed",
        "last": "done",
    }
    assert outcomes["bad"].error == "no luck"
    # The "+" is the checkpoint of the worker that died.
    assert out(last, settings) == "lastfirstvictim+"
    assert state_of(last, settings.root) == "done"
    assert state_of(bad, settings.root) == "failed"
    assert not list(last.folder(settings.root).glob("progress.json"))
    assert settings.log is not None
    told = settings.log.read_text()
    for cell in (first, victim, last):
        assert re.search(rf"{cell.label} (is done|came back) after", told)
    assert f"{bad.label} failed: no luck" in told


def failed(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


@pytest.mark.parametrize("cause", [StorageError("the disk is full"), SuiteError("no such node")])
def test_errors_of_a_task_are_the_cells_own(cause: SuiteError) -> None:
    error = ray.exceptions.RayTaskError("run_shared", "a long traceback", cause)
    assert translated(failed(error)).exception() is cause


def test_errors_of_ray_are_those_of_a_worker_that_died() -> None:
    assert isinstance(
        translated(failed(ray.exceptions.WorkerCrashedError())).exception(), WorkerDied
    )


def test_dead_node_of_this_machine_is_no_fault_of_the_cell() -> None:
    told = translated(failed(ray.exceptions.LocalRayletDiedError())).exception()
    assert isinstance(told, SuiteError)
    assert "run the same command again" in str(told)


def test_full_disk_of_a_node_fails_the_cell_that_travelled_and_frees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the results folder's disk, so the run goes on."""
    fake_kind(monkeypatch, lambda job: None)
    cell, ended = fake("full"), Future[Outcome]()
    travels = object.__new__(_Travels)
    open_results(tmp_path)
    hold = ExitStack()
    hold.enter_context(held(cell.label, tmp_path))
    assert f"process {os.getpid()} on" in str(owner_of(cell.label, tmp_path))
    travels._under_way = {cell.label: (cell, hold)}
    travels._take_checkpoints = lambda: None  # type: ignore[method-assign]
    travels._come_back(cell, failed(StorageError("/tmp is full")), ended)
    assert ended.result() == Outcome("failed", "on its node: /tmp is full")
    with held(cell.label, tmp_path):
        pass


SCRIPT = """
import sys
from pathlib import Path
from l2l.suite.run.executors import EXECUTORS, Settings
from l2l.suite.core.plugins import load_plugin
from l2l.suite.run.scheduler import run_all
from tests.run.test_executors import Seen, fake

plugin, root = map(Path, sys.argv[1:])
load_plugin(plugin)
with EXECUTORS["ray"](Settings(root, "cpu", None, (plugin,))) as workers:
    run_all([fake("slow", seconds=600)], root, workers, Seen())
"""


def test_interrupted_run_frees_its_cells_and_keeps_their_checkpoints(settings: Settings) -> None:
    slow = fake("slow", seconds=600)
    owner = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(settings.plugins[0]), str(settings.root)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A group of its own, which gets the signal as a terminal's does.
        start_new_session=True,
    )
    state = slow.folder(settings.root) / "state.txt"
    try:
        wait_for(lambda: state.exists() or owner.poll() is not None, 300)
        assert state_of(slow, settings.root) == "running"
    finally:
        os.killpg(owner.pid, signal.SIGINT)
        told = owner.communicate(timeout=120)[0]
    assert "KeyboardInterrupt" in told
    wait_for(lambda: state_of(slow, settings.root) == "missing", 120)
    assert state.read_text() == "+"


def test_repository_is_sent_with_code_and_checkpoints_only(tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    ignoring = QUIET["RAY_RUNTIME_ENV_IGNORE_GITIGNORE"] == "1"
    create_package(str(ROOT), package, include_gitignore=not ignoring, excludes=not_code())
    names = zipfile.ZipFile(package).namelist()
    folders = {Path(name).parent.as_posix() for name in names}
    inner = ("suite", "optimizers/learned", "problems/samples/cifar10", "results/checkpoints")
    assert {f"l2l/{name}" for name in inner} <= folders
    assert {name.split("/")[0] for name in names} == {"l2l"}
    assert package.stat().st_size < 2**24  # most of it the samples of data


def test_folder_that_all_nodes_see_is_found_out(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv(SHARED, "auto")
    settings = folder(tmp_path, monkeypatch)
    monkeypatch.setattr("l2l.suite.run.ray.executor.travelling", None)
    assert run([fake("a")], settings)["a"].state == "done"
    assert not list((settings.root / "cells").glob(".shared*"))


# A population, so that what cells compute depends on what others found.
EXAMPLE = ROOT / "docs" / "examples" / "population.yaml"


def test_every_executor_computes_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray on a cluster of its own, as without RAY_ADDRESS."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    plan = plan_request(Request((str(EXAMPLE),), "smoke"))
    tables = []
    for name, jobs in (("local", 1), ("local", 2), ("ray", None)):
        root = tmp_path / f"{name}-{jobs}"
        open_results(root)
        try:
            with EXECUTORS[name](Settings(root, "cpu", jobs)) as workers:
                run_all(plan.cells, root, workers, Seen())
        except SuiteError as error:
            skip_if_slow(error)
            raise
        tables.append(collect_tables(plan, root, experiment_infos(plan, "smoke")))
    optimizers = set(plan.experiments[0].panels["quadratics"].optimizers)
    assert set(tables[0].losses["optimizer"]) == optimizers
    for name, first in tables[0].by_name().items():
        for other in tables[1:]:
            pd.testing.assert_frame_equal(first, other.by_name()[name], check_exact=True)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (CPUS, "many", "L2L_RAY_CPUS is 'many', but must be a number above 0"),
        (MEMORY, "-1", "L2L_RAY_MEMORY_MIB is '-1'"),
        (SHARED, "perhaps", "L2L_RAY_SHARED is 'perhaps', but must be"),
    ],
)
def test_wrong_settings_are_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SuiteError, match=told):
        EXECUTORS["ray"](Settings(tmp_path, "cpu"))


def test_without_ray_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SuiteError, match="needs Ray, which is not installed"):
        EXECUTORS["ray"](Settings(tmp_path, "cpu"))
