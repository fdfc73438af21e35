"""Cells as Ray tasks, on the cores of this machine or the nodes of a cluster (docs/cluster.md).

Results come back through the results folder where every node sees it. Where one does not, a cell
travels: what it reads goes to the node through Ray's object store, and its folder comes back the
same way, checkpoints while it is at work. Ray pickles what travels between its own processes;
nothing is unpickled from a file.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from l2l.suite.core.bounds import Above
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.imports import REPOSITORY
from l2l.suite.core.syntax import WHOLE
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.places import CELLS
from l2l.suite.files.progress import Show
from l2l.suite.inner.process import DETERMINISM
from l2l.suite.plan.cells import Cell
from l2l.suite.run.ray.connect import connect
from l2l.suite.run.ray.futures import translated
from l2l.suite.run.ray.travel import travelling
from l2l.suite.run.ray.worker import run_shared, sees
from l2l.suite.run.store import Outcome
from l2l.suite.run.workers import Settings, Workers

# What a Ray task of ours asks for, and whether all nodes see the results folder.
CPUS, GPUS, MEMORY = "L2L_RAY_CPUS", "L2L_RAY_GPUS", "L2L_RAY_MEMORY_MIB"
SHARED = "L2L_RAY_SHARED"

# Cells in Ray's hands at a time; it queues those that do not fit yet.
CAPACITY = 500
# Nodes of a cluster come and go, so a worker that dies says little of its cell.
ATTEMPTS = 5
# Starts of a cluster of our own; on a busy machine Ray's first processes may be too slow for it.
TRIES = 3
# Of a cluster that this process starts; what travels is small.
OBJECT_STORE = 2**28
# Read by Ray when it is imported.
QUIET = {
    # It must not phone home.
    "RAY_USAGE_STATS_ENABLED": "0",
    # No lines of its own on the terminal.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # No workers ahead of the first task: they would lack our workers' environment.
    "RAY_prestart_worker_first_driver": "0",
    # `not_code` says what is left out.
    "RAY_RUNTIME_ENV_IGNORE_GITIGNORE": "1",
}

# The folder that has the package l2l in it, which is all that nodes need of it.
ROOT = REPOSITORY if (REPOSITORY / WHOLE).is_dir() else REPOSITORY.parent

log = logging.getLogger("suite")


@dataclass(frozen=True)
class Needs:
    """What one cell needs of a node.

    Args:
        cpus: cores, which are its threads too.
        gpus: on ``cuda``; a fraction lets cells share a GPU.
        memory: bytes.
    """

    cpus: int = 1
    gpus: float = 0.0
    memory: int = 2**30

    @staticmethod
    def on(device: str) -> Needs:
        """From the environment.

        Raises:
            SuiteError: a variable is not a positive number.
        """
        cpus, memory = _number(CPUS, 1), _number(MEMORY, 1024)
        gpus = _number(GPUS, 1) if device == "cuda" else 0.0
        return Needs(max(1, int(cpus)), gpus, int(memory * 2**20))

    def options(self) -> dict[str, Any]:
        """For `ray.remote`."""
        # The scheduler starts a dead worker's cell again; Ray would not know that it can resume.
        resources = {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": self.memory}
        return {**resources, "max_retries": 0}

    def fit(self, node: dict[str, float]) -> bool:
        """Whether a node with these resources can ever take a cell."""
        return (
            node.get("CPU", 0) >= self.cpus
            and node.get("GPU", 0) >= self.gpus
            and node.get("memory", 0) >= self.memory
        )


def cluster(settings: Settings) -> AbstractContextManager[Workers]:
    """The cluster at ``$RAY_ADDRESS``, or one of this machine's own that ends with the run.

    Raises:
        SuiteError: Ray is not installed, or a setting is wrong.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise SuiteError(
            "--executor ray needs Ray, which is not installed: pip install 'ray>=2.40'"
        ) from error
    Needs.on("cuda")
    shared = os.environ.get(SHARED, "auto")
    if shared not in ("auto", "yes", "no"):
        raise SuiteError(f"{SHARED} is {shared!r}, but must be 'auto', 'yes' or 'no'")
    # Workers may have another working directory.
    settings = replace(
        settings,
        root=settings.root.resolve(),
        plugins=tuple(path.resolve() for path in settings.plugins),
        log=settings.log and settings.log.resolve(),
    )
    return _cluster(settings, shared)


@contextmanager
def _cluster(settings: Settings, shared: str) -> Iterator[Workers]:
    import ray

    with _connected(settings, shared):
        device = settings.device
        if device == "auto":
            device = "cuda" if ray.cluster_resources().get("GPU") else "cpu"
        settings = replace(settings, device=device)
        needs = Needs.on(device)
        _check_nodes(needs)
        if shared == "yes" or (shared == "auto" and _all_nodes_see(settings.root)):
            with _sharing(settings, needs) as workers:
                yield workers
        else:
            log.info("not every node sees %s: cells travel", settings.root)
            with travelling(settings, needs.options(), settings.jobs or CAPACITY) as workers:
                yield replace(workers, attempts=ATTEMPTS)


@contextmanager
def _connected(settings: Settings, shared: str) -> Iterator[None]:
    """Connected to Ray, with workers that find the suite's code."""
    import ray

    address = _address()
    own = address == "local"
    # Nodes do not inherit this process's environment.
    env_vars = {name: os.environ[name] for name in DETERMINISM if name in os.environ}
    code: dict[str, Any] = {"env_vars": env_vars}
    sends_code = shared == "no" and not own
    if sends_code:
        # Nodes without our files get the code too.
        code |= {"working_dir": str(ROOT), "excludes": not_code()}
    else:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        env_vars["PYTHONPATH"] = path
    on_sigterm = signal.getsignal(signal.SIGTERM)
    options = {"log_to_driver": False, "logging_level": logging.ERROR, "runtime_env": code}
    if own:
        options |= {"address": "local", "include_dashboard": False}
        options["object_store_memory"] = OBJECT_STORE
        if settings.jobs is not None:
            options["num_cpus"] = max(os.cpu_count() or 1, settings.jobs * Needs.on("cpu").cpus)
        _start_own(options)
    else:
        connect(address, options, sends_code)
    try:
        # Ray has put a handler of its own instead of the run's.
        signal.signal(signal.SIGTERM, on_sigterm)
        yield
    finally:
        ray.shutdown()


def _address() -> str:
    """Of the cluster; ``local`` where it is one of this machine's own."""
    return os.environ.get("RAY_ADDRESS") or "local"


def _start_own(options: dict[str, Any]) -> None:
    import ray

    for tries_left in reversed(range(TRIES)):
        try:
            ray.init(**options)
            return
        except Exception as error:
            ray.shutdown()
            # Ray raises a bare Exception where its processes take longer than half a minute.
            if not tries_left or type(error) is not Exception:
                raise SuiteError(
                    f"--executor ray: a cluster on this machine cannot be started: {error}"
                ) from error


def not_code() -> list[str]:
    """What Ray leaves out when it sends `ROOT` to nodes, in the manner of .gitignore."""
    return ["__pycache__", *(f"/{each.name}" for each in ROOT.iterdir() if each.name != WHOLE)]


def _check_nodes(needs: Needs) -> None:
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(needs.fit(node) for node in nodes):
        return
    sentence = (
        f"no node has the {needs.cpus} cores, {needs.gpus:g} GPUs and {needs.memory >> 20} MiB "
        f"that a cell needs ({CPUS}, {GPUS}, {MEMORY})"
    )
    if _address() == "local":
        raise SuiteError(f"--executor ray: {sentence}")
    # A cluster may grow on demand.
    print(f"{sentence}; waiting for one", file=sys.stderr)


def _all_nodes_see(root: Path) -> bool:
    """Whether a file that is written here can be read on every node of now."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    marker, text = root / CELLS / f".shared-{secrets.token_hex(8)}", secrets.token_hex(8)
    write_text_atomic(marker, text)
    try:
        look = ray.remote(num_cpus=0, max_retries=1)(sees)
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        asked = [
            look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(marker, text)
            for node in nodes
        ]
        return all(ray.get(asked))
    except ray.exceptions.RayError as error:
        raise SuiteError(
            f"--executor ray: a node cannot import the suite ({str(error).splitlines()[-1]}): "
            f"set {SHARED}=no to send it along"
        ) from error
    finally:
        marker.unlink(missing_ok=True)


@contextmanager
def _sharing(settings: Settings, needs: Needs) -> Iterator[Workers]:
    """Every node works in the results folder itself."""
    import ray

    task = ray.remote(**needs.options())(run_shared)

    def submit(cell: Cell, show: Show) -> Future[Outcome]:
        return translated(task.remote(cell, settings, needs.cpus).future())

    yield Workers(settings.jobs or CAPACITY, submit, ATTEMPTS)


def _number(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    try:
        number = float(text) if text else default
    except ValueError:
        number = 0.0
    if not 0 < number < 2**40:
        raise SuiteError(f"{name} is {text!r}, but must be a number {Above(0)}")
    return number
