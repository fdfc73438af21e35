"""Seconds of a call, for several alternatives in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def seconds(function: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def interleaved(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median time of a call of each, in seconds.

    Each repeat calls all of them, one after the other, so that what else the machine does meets
    all alike. A first call of each is not measured.
    """
    for function in functions.values():
        function()
    rounds = [{name: seconds(each) for name, each in functions.items()} for _ in range(repeats)]
    return {name: statistics.median(times[name] for times in rounds) for name in functions}


def wall_and_processor(
    functions: Mapping[str, Callable[[], object]], repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """As `interleaved`, and the processor's time that the same calls take.

    Where other processes crowd a machine, the latter says more of what is called.
    """
    for function in functions.values():
        function()
    told: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            begin = time.process_time()
            duration = seconds(function)
            told[name].append((duration, time.process_time() - begin))
    medians = {
        name: [statistics.median(each) for each in zip(*own, strict=True)]
        for name, own in told.items()
    }
    wall, processor = ({name: own[i] for name, own in medians.items()} for i in range(2))
    return wall, processor
