"""Processes of their own in which the suite is imported already: that takes a new one seconds."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

# The server imports these and starts no thread, so what is forked from it can be relied on. It
# begins at the first use, and ends with the tests.
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["pytest", "l2l.suite.commands.run", "matplotlib.figure"])


@contextmanager
def forked(output: Path, target: Callable[..., object], *args: object) -> Iterator[BaseProcess]:
    """A process that calls `target` on one thread, which is killed at the end of the block.

    Args:
        output: the file for all that it prints, and that the processes it starts do.
        target: a function that can be imported.
        args: of the function.
    """
    # Not the server's environment, which is that of its first use.
    words = (output, dict(os.environ), target, args)
    process = _server.Process(target=_call, args=words)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _call(
    output: Path, environment: dict[str, str], target: Callable[..., object], args: tuple[Any, ...]
) -> None:
    import torch

    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment, OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    target(*args)
