"""Held-out losses of runs on problems that have some, at a few steps of an evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point

# Into how many parts held-out losses divide a run.
PARTS = 10


class HeldOutLog:
    """Watches an evaluation, and keeps held-out losses of each group of runs at `steps`."""

    def __init__(self, steps: int) -> None:
        self.steps = sorted({round(part * steps / PARTS) for part in range(PARTS + 1)})
        self._losses: list[Tensor] = []

    def __call__(self, objective: Objective, point: Point) -> None:
        if point.step == 0:
            self._losses = []
        if point.step in self.steps:
            loss = objective.held_out(point.theta)
            self._losses.append(torch.where(point.alive, loss, torch.inf).cpu())

    def losses(self) -> Tensor:
        """Those of the last group [n, len(steps)], infinite once a run has diverged."""
        return torch.stack(self._losses, dim=1)
