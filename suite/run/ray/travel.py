"""Cells that travel to nodes which do not see the results folder, and what comes back of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, Queue
from typing import Any

from filelock import Timeout

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.plugins import plugin_files
from l2l.suite.files.progress import Show
from l2l.suite.files.storage import guarded
from l2l.suite.plan.cells import Cell
from l2l.suite.run.locks import held
from l2l.suite.run.ray.futures import translated
from l2l.suite.run.ray.transport import Files, pack, unpack
from l2l.suite.run.ray.worker import Order, Returned, run_travelling
from l2l.suite.run.records import record_of
from l2l.suite.run.store import Outcome, prepare, tidy
from l2l.suite.run.workers import Settings, WorkerDied, Workers

# Seconds between looks into the mailbox.
POLL = 1.0
# Seconds that a worker waits for its checkpoint to be taken.
PATIENCE = 30.0

log = logging.getLogger("suite")


class Mailbox:
    """Files of cells at work, the last of each name, until they are taken; a Ray actor."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, bytes]] = {}

    def put(self, label: str, files: Files) -> None:
        """Leave files of the cell `label`."""
        self._files.setdefault(label, {}).update(files)

    def take(self) -> dict[str, dict[str, bytes]]:
        """All there is, by cell."""
        taken, self._files = self._files, {}
        return taken


def travel(order: Order, mailbox: Any, *inputs: Files) -> Returned:
    """The Ray task: a cell with the folders of its inputs."""
    import ray

    def post(files: Files) -> None:
        try:
            ray.get(mailbox.put.remote(order.cell.label, files), timeout=PATIENCE)
        except (ray.exceptions.RayError, TimeoutError):
            # Without it a resume begins earlier; nothing else is lost.
            log.warning("%s: a checkpoint did not arrive", order.cell.label)

    return run_travelling(order, inputs, post)


@contextmanager
def travelling(settings: Settings, options: dict[str, Any], capacity: int) -> Iterator[Workers]:
    """Workers that send cells away and put what comes back into the results folder.

    This process alone needs to see the folder. The Ray tasks have these `options`.
    """
    travels = _Travels(settings, options)
    postman = threading.Thread(target=travels.receive, daemon=True)
    postman.start()
    try:
        yield Workers(capacity, travels.submit)
    finally:
        travels.stop.set()
        postman.join()


class _Travels:
    """The cells under way: each is locked here, so that no other process takes it up."""

    def __init__(self, settings: Settings, options: dict[str, Any]) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray = ray
        self._settings = settings
        self._cpus = options["num_cpus"]
        self._task = ray.remote(**options)(travel)
        self._plugins = tuple(
            (path.resolve().name, plugin_files(path)) for path in settings.plugins
        )
        # The mailbox must outlive every other node, so it stays on this one.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._mailbox = ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()
        # What cells read, in the object store once however many read it.
        self._sent: dict[str, Any] = {}
        self._under_way: dict[str, tuple[Cell, ExitStack]] = {}
        # What came back, for the one thread that writes: Ray's own must not wait for disks.
        self._arrived: Queue[tuple[Cell, Future[Returned], Future[Outcome]]] = Queue()
        self.stop = threading.Event()

    def submit(self, cell: Cell, show: Show) -> Future[Outcome]:
        """Send a cell away, unless it is done or another process is at it."""
        ended: Future[Outcome] = Future()
        root = self._settings.root
        # Taken by one thread and freed by another.
        hold = ExitStack()
        try:
            with guarded(root):
                hold.enter_context(held(cell.label, root))
        except Timeout:
            ended.set_result(Outcome("busy"))
            return ended
        if record_of(cell, root) is not None:
            hold.close()
            ended.set_result(Outcome("done"))
            return ended
        folder = cell.folder(root)
        with guarded(root):
            prepare(folder)
        order = Order(cell, self._settings.device, self._cpus, self._plugins, pack(folder))
        inputs = [self._store(each) for each in cell.inputs]
        self._under_way[cell.label] = cell, hold
        log.info("%s is sent away", cell.label)
        inner = translated(self._task.remote(order, self._mailbox, *inputs).future())
        inner.add_done_callback(lambda done: self._arrived.put((cell, done, ended)))
        return ended

    def receive(self) -> None:
        """Put what comes back where it belongs, until `stop` is set."""
        looked = time.monotonic()
        while not self.stop.is_set():
            with suppress(Empty):
                self._come_back(*self._arrived.get(timeout=POLL))
            if time.monotonic() - looked >= POLL:
                self._take_checkpoints()
                looked = time.monotonic()
        self._take_checkpoints()
        for _, hold in self._under_way.values():
            hold.close()

    def _take_checkpoints(self) -> None:
        try:
            taken = self._ray.get(self._mailbox.take.remote(), timeout=PATIENCE)
            for label, files in taken.items():
                if label in self._under_way:
                    unpack(files, self._under_way[label][0].folder(self._settings.root))
        except (self._ray.exceptions.RayError, TimeoutError, SuiteError) as error:
            log.warning("checkpoints of other nodes were not taken: %s", error)

    def _store(self, cell: Cell) -> Any:
        if cell.key not in self._sent:
            self._sent[cell.key] = self._ray.put(pack(cell.folder(self._settings.root)))
        return self._sent[cell.key]

    def _come_back(self, cell: Cell, done: Future[Returned], ended: Future[Outcome]) -> None:
        """Whatever happens here ends the future: the scheduler waits for it."""
        error = done.exception()
        if error is not None:
            # What a worker sent before it died is where the next one goes on.
            self._take_checkpoints()
        # Checkpoints that come later are of no use any more.
        _, hold = self._under_way.pop(cell.label)
        try:
            if error is not None and not isinstance(error, WorkerDied):
                # A full disk there, say: not the results folder's affair.
                outcome = Outcome("failed", f"on its node: {error}")
            else:
                with guarded(self._settings.root):
                    outcome = self._unpacked(cell, done.result())
        except Exception as error:
            hold.close()
            ended.set_exception(error)
        else:
            hold.close()
            ended.set_result(outcome)

    def _unpacked(self, cell: Cell, returned: Returned) -> Outcome:
        folder = cell.folder(self._settings.root)
        unpack(returned.files, folder)
        if returned.outcome.state == "done":
            tidy(folder)
            if record_of(cell, self._settings.root) is None:
                return Outcome("failed", "what came back of it is not whole")
            log.info("%s came back after %.1f s", cell.label, returned.outcome.seconds)
        else:
            log.error("%s failed: %s", cell.label, returned.outcome.error)
        return returned.outcome
