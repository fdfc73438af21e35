"""Settings of the process that numerics run in."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from l2l.suite.core.generators import seeded_generators
from l2l.suite.core.native_calls import kernel_threads

DETERMINISTIC = "L2L_DETERMINISTIC"
# What `deterministic` sets, for processes that it starts.
DETERMINISM = (DETERMINISTIC, "CUBLAS_WORKSPACE_CONFIG")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let the C library reuse freed tensors instead of giving them back to the system.

    Each step of an optimizer allocates its next state, some megabytes; fresh pages for it would
    cost as much time as the step itself. Only glibc has such a setting; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**30)


@contextmanager
def one_thread_beside_the_kernel() -> Iterator[None]:
    """PyTorch on one thread, and the fused LSTM on as many as PyTorch had.

    Convolutions, products of matrices and sums round in another way on another number of threads;
    the LSTM's kernel does not. So results depend neither on the machine's cores nor on how many
    cells share them.
    """
    threads = torch.get_num_threads()
    token = kernel_threads.set(threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        kernel_threads.reset(token)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Only deterministic algorithms, in this process and those that it starts.

    PyTorch raises an error for an operation that has none. It matters on GPUs: what the suite does
    on a CPU is deterministic either way.
    """
    if not wanted:
        yield
        return
    before = {name: os.environ.get(name) for name in DETERMINISM}
    algorithms = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    os.environ[DETERMINISTIC] = "1"
    follow_environment()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(algorithms)
        torch.backends.cudnn.benchmark = benchmark
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def full_float32() -> Iterator[None]:
    """Let no GPU round the inputs of float32 convolutions to TF32, as PyTorch does if not told."""
    cudnn = torch.backends.cudnn
    # The older name, `allow_tf32`, can be read only where it agrees with these, which a program may
    # have set alone. Within, all agree: `cudnn.flags`, which a plugin may need, reads the older.
    kinds: tuple[Any, ...] = (cudnn.conv, cudnn.rnn)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    cudnn.allow_tf32 = False
    for kind in kinds:
        kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        cudnn.allow_tf32 = "tf32" in before
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


@contextmanager
def as_in_a_cell() -> Iterator[None]:
    """Numbers come out as those of cells do, whatever this process was set to before."""
    follow_environment()
    with one_thread_beside_the_kernel(), full_float32(), seeded_generators():
        yield


def follow_environment() -> None:
    """Ask PyTorch for deterministic algorithms where the environment does; workers inherit it."""
    if os.environ.get(DETERMINISTIC):
        # cuBLAS reads it when it starts; with it, products do not depend on the order of streams.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
