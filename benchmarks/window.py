"""One optimizee step of meta-training and of evaluation, by each way of computing it."""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch

import l2l.optimizers.learned.lstm
from benchmarks.timing import seconds
from l2l.optimizers.kernels import reference
from l2l.optimizers.learned.lstm import LSTM
from l2l.problems.mlp import MLP
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Params
from l2l.suite.inner.loop import descend, walk
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.process import keep_freed_memory
from l2l.suite.inner.step import Point, start
from l2l.suite.meta.estimators.second_order import second_order_gradient
from l2l.suite.meta.estimators.truncated import window_gradient
from l2l.suite.meta.meta_loss import loss_weights

WINDOW = 20
WAYS = ("autograd", "reference", "compiled", "fused", "second order", "second order, autograd")
OURS = ("fused", "second order")  # on the fused kernel
# Bytes that each keeps for a coordinate and step of 20.
BYTES = dict.fromkeys(WAYS, 2500) | {
    "reference": 310,
    "compiled": 310,
    "fused": 36,
    "second order": 400,
}
# The others take a minute a call for so many coordinates and steps, and so are called less often.
MANY = 10**7
# Hidden units of the MNIST network, by which its number of parameters is about 10^3 … 10^6, and
# the window's steps.
CASES = ((1, WINDOW), (20, WINDOW), (126, WINDOW), (126, 100), (1258, WINDOW))


def learned(preprocessing: str = "log") -> LSTM:
    """A 2×20 LSTM with random weights."""
    optimizer = LSTM(preprocessing=preprocessing)
    return optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))


def by_autograd(
    objective: Objective,
    optimizer: LSTM,
    steps: int = WINDOW,
    second_order: bool = False,
    windows: int = 1,
) -> None:
    """A run as PyTorch ports of the paper do it: one graph through optimizer and optimizee."""
    phi = optimizer.phi.clone().requires_grad_()
    moving = optimizer.with_weights(phi)
    theta = objective.start()
    state = moving.init(objective.spec, objective.rows)
    for window in range(windows):
        theta, state, total = theta.detach(), state.detach(), torch.zeros(())
        with torch.enable_grad():
            for step in range(window * steps, (window + 1) * steps):
                kept = second_order and step > window * steps
                _, grads = objective.value_and_grad(theta if kept else theta.detach(), step)
                update, state = moving.update(grads, state, Params(theta, objective.spec))
                theta = theta + update
                total = total + objective.value(theta, step + 1).sum()
            torch.autograd.grad(total, phi)


def by_suite(
    objective: Objective,
    optimizer: LSTM,
    steps: int = WINDOW,
    second_order: bool = False,
    windows: int = 1,
) -> None:
    """A run as this suite does it, with whatever kernel is in place."""
    with torch.no_grad():
        point = start(objective, optimizer)
        for _ in range(windows):
            point = _window(objective, optimizer, point, steps, second_order)


def _window(
    objective: Objective, optimizer: LSTM, point: Point, steps: int, second_order: bool
) -> Point:
    """Where a window ends, of which the meta-gradient is computed."""
    points = walk(objective, optimizer, point, steps, second_order)
    weights = loss_weights(points, "loss")
    if second_order:
        second_order_gradient(optimizer, objective, points, weights)
    else:
        window_gradient(optimizer, points, weights, Rng(0, "unused"))
    return points[-1]


def evaluate(objective: Objective, optimizer: LSTM, steps: int = WINDOW) -> None:
    """As many steps without a meta-gradient."""
    with torch.no_grad():
        for _ in descend(objective, optimizer, steps):
            pass


@functools.cache
def _compiled() -> Callable[..., Any]:
    # Each piece of the coordinates has its own size, and past the limit PyTorch goes on uncompiled.
    torch._dynamo.config.recompile_limit = 100
    return torch.compile(reference.step, dynamic=False)


@contextmanager
def using(way: str) -> Iterator[None]:
    """The kernel of one of `WAYS` in place of what the suite would choose."""
    with ExitStack() as stack:
        if way == "compiled":
            stack.enter_context(patch.object(reference, "step", _compiled()))
        if way not in OURS:
            choice = patch.object(l2l.optimizers.learned.lstm, "kernel_for", lambda *_: reference)
            stack.enter_context(choice)
        yield


def peak_mib(function: Callable[[], object]) -> float:
    """The most memory that a call takes above what the process has before it, in MiB (Linux)."""
    # What earlier calls left behind must not be counted as there before.
    ctypes.CDLL(None).malloc_trim(0)
    _highest_mib()
    before = _highest_mib()
    function()
    return _highest_mib() - before


def _highest_mib() -> float:
    """The most memory that this process has had since the last call."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").split("VmHWM:")[1].split()[0]
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # begins the peak anew
    return int(status) / 1024


@functools.cache
def _case(units: int) -> tuple[Objective, LSTM]:
    """An objective and an optimizer."""
    keep_freed_memory()
    return Objective(MLP(units=units), [0], "train", 0), learned()


def measure(way: str, units: int, steps: int, calls: int) -> tuple[float, float, float, float]:
    """Milliseconds of a step of training, of evaluation, and of the optimizee's gradient alone.

    The last number is training's peak memory, in MiB, the median of some calls.
    """
    objective, optimizer = _case(units)
    second_order = way.startswith("second order")

    def train() -> None:
        function = by_autograd if way.endswith("autograd") else by_suite
        function(objective, optimizer, steps, second_order)

    with using(way):
        # First, for it gives back free memory: the timed call has memory as a run's later windows.
        peak = median(peak_mib(train) for _ in range(calls))
        trained = seconds(train)
        evaluated = seconds(lambda: evaluate(objective, optimizer, steps))
    theta = objective.start()
    optimizee = seconds(lambda: [objective.value_and_grad(theta, t) for t in range(steps)])
    return 1e3 * trained / steps, 1e3 * evaluated / steps, 1e3 * optimizee / steps, peak


def windows(
    repeats: int, cases: Sequence[tuple[int, int]] = CASES, ways: Sequence[str] = WAYS
) -> pd.DataFrame:
    """Every way, ``fused`` among them, on every network, each in a process of its own, in turn.

    Ways that would take more than a quarter of the memory are left out.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    spawn = multiprocessing.get_context("spawn")
    rows = []
    for units, steps in cases:
        parameters = 795 * units + 10
        allowed = 0.25 * memory / (parameters * steps)
        with ExitStack() as stack:
            workers = {
                way: stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn))
                for way in ways
                if BYTES[way] < allowed
            }
            told: dict[str, list[tuple[float, ...]]] = {way: [] for way in workers}
            for number in range(repeats + 1):
                for way, worker in workers.items():
                    slow = way not in OURS and parameters * steps > MANY
                    if number < 2 or not slow:
                        calls = 1 if slow else 3
                        told[way].append(worker.submit(measure, way, units, steps, calls).result())
        for way, numbers in told.items():
            # Without the first, which compiles, and whose peak has the code that it loads.
            training, evaluation, optimizee, peak = map(median, zip(*numbers[1:], strict=True))
            rows.append(
                {
                    "parameters": parameters,
                    "window": steps,
                    "way": way,
                    "training_ms": training,
                    "evaluation_ms": evaluation,
                    "optimizee_ms": optimizee,
                    "peak_mib": peak,
                    "training_ns_a_coordinate": 1e6 * training / parameters,
                    "optimizer_ns_a_coordinate": 1e6 * (training - optimizee) / parameters,
                }
            )
    table = pd.DataFrame(rows)
    fused = table[table.way == "fused"].set_index(["parameters", "window"])
    ours = fused.loc[list(zip(table.parameters, table.window, strict=True))]
    table["fused_is_faster_by"] = table.training_ms / ours.training_ms.to_numpy()
    table["fused_is_smaller_by"] = table.peak_mib / ours.peak_mib.to_numpy()
    return table
