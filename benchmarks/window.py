"""One optimizee step of meta-training and of evaluation, by each way of computing it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

import optimizers.learned.lstm
from optimizers.kernels import reference
from optimizers.learned.lstm import LSTM
from problems.mlp import MLP
from suite.config import Phase
from suite.loop import advance, descend, start
from suite.metagradient import window_gradient
from suite.objective import Objective
from suite.process import keep_freed_memory
from suite.seeds import Rng

WINDOW = 20
PHASE = Phase(runs=1, horizon=WINDOW, window=WINDOW, rate=0.01)
WAYS = ("autograd", "reference", "compiled", "fused")
# Bytes that autograd through the unroll keeps for a coordinate and step of a 2×20 LSTM.
AUTOGRAD_BYTES = 2500


def learned() -> LSTM:
    """A 2×20 LSTM with random weights."""
    optimizer = LSTM()
    return optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))


def by_autograd(objective: Objective, optimizer: LSTM) -> None:
    """A window as PyTorch ports of the paper do it: one graph through optimizer and optimizee."""
    assert optimizer.weights is not None
    phi = optimizer.weights.clone().requires_grad_()
    moving = optimizer.with_weights(phi)
    theta = objective.start()
    state = moving.init(objective.spec, 1)
    total = torch.zeros(())
    with torch.enable_grad():
        for step in range(WINDOW):
            _, grads = objective.value_and_grad(theta.detach(), step)
            update, state = moving.update(grads, state)
            theta = theta + update
            total = total + objective.value(theta, step + 1).sum()
        torch.autograd.grad(total, phi)


def by_suite(objective: Objective, optimizer: LSTM) -> None:
    """A window as this suite does it, with whatever kernel is in place."""
    with torch.no_grad():
        points = [point := start(objective, optimizer)]
        for _ in range(WINDOW):
            point = advance(objective, optimizer, point)
            points.append(replace(point, state=None))
        window_gradient(optimizer, points, PHASE, Rng(0, "unused"))


def evaluate(objective: Objective, optimizer: LSTM) -> None:
    """As many steps without a meta-gradient."""
    with torch.no_grad():
        for _ in descend(objective, optimizer, WINDOW):
            pass


def milliseconds(function: Callable[[], None], seconds: float) -> float:
    """The fastest of several calls, for one step of the window."""
    function()
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < seconds:
        started = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - started)
    return best / WINDOW * 1e3


def peak_mib() -> float:
    """The most memory that this process has had since the last call (Linux)."""
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    Path("/proc/self/clear_refs").write_text("5")  # begins the peak anew
    return int(status) / 1024


def measure(way: str, units: int, seconds: float) -> dict[str, float]:
    """Milliseconds of a step, and the peak of memory above what the process had before, in MiB."""
    keep_freed_memory()
    objective, optimizer = Objective(MLP(units=units), [0], "train", 0), learned()
    if way != "fused":
        optimizers.learned.lstm.kernel_for = lambda shape, like: reference
    if way == "compiled":
        reference.step = torch.compile(reference.step, dynamic=False)
    train = by_autograd if way == "autograd" else by_suite
    objective.value_and_grad(objective.start(), 0)
    peak_mib()
    base = peak_mib()
    trained = milliseconds(lambda: train(objective, optimizer), seconds)
    peak = peak_mib() - base
    evaluated = milliseconds(lambda: evaluate(objective, optimizer), seconds / 2)
    return {"training_ms": trained, "evaluation_ms": evaluated, "peak_mib": peak}


def main(arguments: Sequence[str]) -> None:
    """Measure one way on one network in this process; prints JSON."""
    way, units, seconds = arguments
    print(json.dumps(measure(way, int(units), float(seconds))))


if __name__ == "__main__":
    main(sys.argv[1:])
