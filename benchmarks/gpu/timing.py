"""Seconds and peak memory of calls on a device, which works beside the host."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

from benchmarks.timing import seconds
from benchmarks.window import peak_mib
from l2l.suite.inner import replay

# Calls before launches are surely recorded.
FIRST = 3


def wait_for(device: str) -> None:
    """Until all that was asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()


def median_seconds(function: Callable[[], object], device: str, repeats: int = 3) -> float:
    """The median time of a call; the first ones, which compile and record, are not measured."""

    def call() -> None:
        function()
        wait_for(device)

    for _ in range(FIRST if device == "cuda" else 1):
        call()
    return statistics.median(seconds(call) for _ in range(repeats))


def peak_of(function: Callable[[], object], device: str) -> float:
    """The most memory that a call takes above what is in use before it, in MiB.

    On a GPU that is what PyTorch takes from the driver, which a recording's own memory belongs to:
    nothing is recorded before the call.
    """
    if device != "cuda":
        return peak_mib(function)
    from l2l.optimizers.kernels import triton_window

    for module in (replay, triton_window):
        module._recordings.clear()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    function()
    return (torch.cuda.max_memory_reserved() - before) / 2**20
