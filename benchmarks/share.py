"""Where the time of meta-training goes: optimizee, optimizer, and the rest.

`python -m benchmarks.share fig4 fig7` runs some windows of the last phase of each training
of the experiments, with untrained weights and truncated BPTT, and prints the shares.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from l2l.suite.commands.request import Request, load_experiments
from l2l.suite.core.registry import estimators, optimizers, problems
from l2l.suite.core.seeds import Rng
from l2l.suite.inner.loop import walk
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.process import keep_freed_memory
from l2l.suite.inner.step import start
from l2l.suite.meta.estimators.truncated import window_gradient
from l2l.suite.meta.meta_loss import loss_weights
from l2l.suite.meta.schedule import Training

WINDOWS = 3


class Clock:
    """Seconds spent in each of several parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - begin

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added to `part`."""

        def call(*arguments: Any, **named: Any) -> Any:
            with self(part):
                return function(*arguments, **named)

        return call


@torch.no_grad()
def shares(training: Training, windows: int = WINDOWS) -> dict[str, float]:
    """Milliseconds of a step in all, and the parts' shares of it."""
    problem = problems.make(training.problem)
    untrained = optimizers.make(training.optimizer)
    optimizer = untrained.with_weights(untrained.initial_weights(Rng(0, "phi")))
    phase = training.phases[-1]
    steps = estimators.make(phase.estimator).windows(phase.horizon)[0]
    clock = Clock()
    objective = Objective(problem, range(phase.batch), "train", 0)
    objective.value_and_grad = clock.timed("optimizee", objective.value_and_grad)  # type: ignore[method-assign]
    # Frozen dataclasses take no new attributes the usual way.
    for name in ("update", "update_in_place"):
        object.__setattr__(optimizer, name, clock.timed("optimizer", getattr(optimizer, name)))
    point = start(objective, optimizer)
    clock.seconds.clear()
    with clock("all"):
        for _ in range(windows):
            points = walk(objective, optimizer, point, steps)
            point = points[-1]
            with clock("optimizer"):
                weights = loss_weights(points, phase.objective)
                sample = phase.estimator.get("sample")
                window_gradient(optimizer, points, weights, Rng(0, "sample"), sample=sample)
    total = clock.seconds.pop("all")
    parts = {name: seconds / total for name, seconds in clock.seconds.items()}
    milliseconds = 1e3 * total / (windows * steps)
    return {"ms a step": milliseconds, **parts, "rest": 1 - sum(parts.values())}


def main(names: Sequence[str]) -> None:
    """Print the shares of every training of the experiments."""
    keep_freed_memory()
    for experiment in load_experiments(Request(tuple(names), profile="paper")):
        for name, training in experiment.training.items():
            if training.phases:
                told = shares(training)
                words = [f"{told.pop('ms a step'):.1f} ms a step"]
                words += [f"{part} {share:.1%}" for part, share in told.items()]
                print(f"{experiment.name} {name}: {', '.join(words)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
