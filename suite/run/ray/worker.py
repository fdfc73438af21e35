"""What runs on Ray's nodes: a cell in the shared results folder, or in one that is made for it."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.plugins import load_plugin, plugin_files
from l2l.suite.files.logs import log_to
from l2l.suite.files.progress import Step
from l2l.suite.files.provenance import checkout
from l2l.suite.inner.process import keep_freed_memory
from l2l.suite.plan.cells import Cell
from l2l.suite.run.folder import check_version, open_results
from l2l.suite.run.ray.transport import Files, pack, unpack
from l2l.suite.run.store import Outcome, run_cell
from l2l.suite.run.workers import Settings

# Seconds between checkpoints that are sent home.
INTERVAL = 2.0

log = logging.getLogger("suite")


def sees(marker: Path, text: str) -> bool:
    """Whether this node has the file `marker` with this text."""
    try:
        return marker.read_text(encoding="utf-8") == text
    except OSError:
        return False


def run_shared(cell: Cell, settings: Settings, cpus: int) -> Outcome:
    """`run_cell` in the results folder that every node sees.

    Raises:
        StorageError: it cannot be written to.
    """
    if not cell.folder(settings.root).parent.is_dir():
        raise SuiteError(f"this node does not see {settings.root}: set L2L_RAY_SHARED=no")
    _start(cpus, settings.log)
    _load(settings.plugins)
    check_version(settings.root)
    return run_cell(cell, settings.root, settings.device)


@dataclass(frozen=True)
class Order:
    """A cell that travels.

    Args:
        cell: what to compute.
        device: ``cpu`` or ``cuda``.
        cpus: threads.
        plugins: users' files, each by name, with its content and that of what it imports from
            beside it.
        left: what an earlier attempt left in the cell's folder.
    """

    cell: Cell
    device: str
    cpus: int
    plugins: tuple[tuple[str, Files], ...]
    left: Files


@dataclass(frozen=True)
class Returned:
    """How a travelling cell ended, and its folder."""

    outcome: Outcome
    files: Files


def run_travelling(
    order: Order, inputs: Sequence[Files], post: Callable[[Files], None]
) -> Returned:
    """Compute a cell in a folder of this node's own, from the folders of the cells that it reads.

    While it is at work, `post` sends files of its folder home.
    """
    _start(order.cpus, None)
    with tempfile.TemporaryDirectory(prefix="l2l-") as name:
        root = Path(name)
        for number, (file, contents) in enumerate(order.plugins):
            # Two of one name are two plugins.
            folder = root / "plugins" / str(number)
            for place, content in contents.items():
                unpack({Path(place).name: content}, (folder / place).parent)
            _load((folder / file,))
        open_results(root)
        for cell, files in zip(order.cell.inputs, inputs, strict=True):
            unpack(files, cell.folder(root))
        folder = order.cell.folder(root)
        unpack(order.left, folder)
        outcome = run_cell(order.cell, root, order.device, _Checkpoints(folder, post))
        return Returned(outcome, pack(folder))


class _Checkpoints:
    """Told of the progress, sends home what changed in a folder since it last did."""

    def __init__(self, folder: Path, post: Callable[[Files], None]) -> None:
        self._folder, self._post = folder, post
        self._sent = pack(folder)
        self._last = -INTERVAL

    def __call__(self, step: Step) -> None:
        if time.monotonic() - self._last < INTERVAL:
            return
        files = pack(self._folder)
        changed = {name: data for name, data in files.items() if self._sent.get(name) != data}
        if changed:
            self._post(changed)
            self._sent, self._last = files, time.monotonic()


@cache
def _start(cpus: int, log_file: Path | None) -> None:
    """Once a process: a worker takes one cell after the other."""
    torch.set_num_threads(cpus)
    keep_freed_memory()
    checkout()  # which is asked for once
    if log_file is not None:
        log_to(log_file)


_loaded: list[Files] = []


def _load(plugins: tuple[Path, ...]) -> None:
    """Import plugins that this process has not yet."""
    for path in plugins:
        contents = plugin_files(path)
        if contents not in _loaded:
            load_plugin(path)
            _loaded.append(contents)
