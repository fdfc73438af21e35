"""Runs of one optimizer on fresh instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from suite.loop import Point, descend
from suite.memory import rows_at_once
from suite.objective import Objective, param_spec
from suite.progress import Progress, silent
from suite.types import Optimizer, Problem


@torch.no_grad()
def evaluate(
    problem: Problem,
    optimizer: Optimizer,
    steps: int,
    instances: int | Sequence[int],
    seed: int,
    device: str | torch.device = "cpu",
    split: str = "test",
    watch: Callable[[Objective, Point], None] | None = None,
    progress: Progress = silent,
) -> Tensor:
    """Losses [n, steps + 1] after 0, 1, … `steps` updates; infinite once a run has diverged.

    Instances are run in groups that fit the memory budget; the grouping changes no number.

    Args:
        problem: the distribution of functions.
        optimizer: with its hyperparameters or weights.
        steps: updates of a run.
        instances: how many, or which.
        seed: the experiment's.
        device: where tensors live.
        split: the stream that instances are drawn from.
        watch: is shown each point of each group.
        progress: called after each step with runs done, of how many, and a note.
    """
    numbers = list(range(instances)) if isinstance(instances, int) else list(instances)
    group = rows_at_once(param_spec(problem), optimizer, torch.device(device))
    losses = []
    for first in range(0, len(numbers), group):
        objective = Objective(problem, numbers[first : first + group], split, seed, device=device)
        own = []
        for point in descend(objective, optimizer, steps):
            own.append(point.loss)
            if watch is not None:
                watch(objective, point)
            done = first + objective.rows * point.step // steps
            progress(done, len(numbers), f"step {point.step} of {steps}")
        losses.append(torch.stack(own, dim=1).cpu())
    return torch.cat(losses)
