"""Runs of one optimizer on fresh instances."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from l2l.suite.core.types import Optimizer, Problem
from l2l.suite.files.pieces import Keep, anew
from l2l.suite.files.progress import Progress, silent
from l2l.suite.inner.loop import descend
from l2l.suite.inner.memory import runs_at_once
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point


def final_steps(steps: int) -> range:
    """The steps whose mean loss is the final one of a run: the last tenth, at least the last.

    A loss is of one minibatch, which says little of where a run ends.
    """
    return range(steps - max(1, steps // 10) + 1, steps + 1)


@torch.no_grad()
def evaluate(
    problem: Problem,
    optimizer: Optimizer,
    steps: int,
    instances: int | Sequence[int],
    seed: int,
    device: str | torch.device = "cpu",
    split: str = "test",
    watch: Sequence[Callable[[Objective, Point], None]] = (),
    progress: Progress = silent,
    keep: Keep = anew,
) -> Tensor:
    """Losses [n, steps + 1] after 0, 1, … `steps` updates; infinite once a run has diverged.

    Instances are run in groups that fit the memory budget. Only `vmap` may round differently in
    groups of other sizes.

    Args:
        problem: the distribution of functions.
        optimizer: with its hyperparameters or weights.
        steps: updates of a run.
        instances: how many, or which.
        seed: the experiment's.
        device: where tensors live.
        split: the stream that instances are drawn from.
        watch: are shown each point of each group.
        progress: called after each step with runs done, of how many, and a note.
        keep: the losses of each group, so that they are not computed again.
    """
    numbers = list(range(instances)) if isinstance(instances, int) else list(instances)
    group = runs_at_once(problem, optimizer, torch.device(device))

    def run(first: int, some: Sequence[int]) -> Tensor:
        objective = Objective(problem, some, split, seed, device=device)
        losses = []
        for point in descend(objective, optimizer, steps):
            losses.append(point.loss)
            for each in watch:
                each(objective, point)
            done = first + objective.rows * point.step // steps
            progress(done, len(numbers), f"step {point.step} of {steps}")
        return torch.stack(losses, dim=1).cpu()

    found = []
    for first in range(0, len(numbers), group):
        some = numbers[first : first + group]
        found.append(keep(f"{first}-{len(some)}", functools.partial(run, first, some)))
    return torch.cat(found)
