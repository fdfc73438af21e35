"""One step of an optimizee run: an update, and the loss and gradient where it leads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from l2l.suite.core.abilities import has
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.types import Optimizer, Params, ParamSpec
from l2l.suite.inner.objective import Objective


@dataclass(frozen=True)
class Point:
    """Where n runs stand after `step` updates.

    Args:
        step: number of updates done.
        theta: the iterate [n, P]; its memory may be the next point's as well.
        state: the optimizer's state; likewise.
        loss: f at the iterate [n]; infinite once a run has diverged.
        grads: ∇f at the iterate, or where the optimizer looks ahead [n, P]; 0 once diverged.
        alive: which runs have not diverged, bool [n].
        spec: the layout of the iterate.
        intact: whether surely no run has diverged, which nearly always saves passes over all that
            there is. A GPU is not waited for: there it is False, and the passes change nothing.
    """

    step: int
    theta: Tensor
    state: Any
    loss: Tensor
    grads: Tensor
    alive: Tensor
    spec: ParamSpec
    intact: bool = False

    @property
    def params(self) -> Params:
        """The iterate, as an optimizer is given it."""
        return Params(self.theta, self.spec)


def start(objective: Objective, optimizer: Optimizer, state: Any = None) -> Point:
    """θ_0, with loss and gradient there, and an optimizer's `state`, or its first one if None.

    Raises:
        SuiteError: loss or gradient are not finite there, before any optimizer did anything.
    """
    theta = objective.start()
    kept = state is not None
    # Authors write torch.zeros(n, P) without a device, and get it where the run is.
    if not kept:
        with theta.device:
            state = optimizer.init(objective.spec, objective.rows)
    alive = torch.ones(objective.rows, dtype=torch.bool, device=theta.device)
    intact = alive.device.type == "cpu"
    point = _evaluated(objective, optimizer, 0, theta, state, alive, intact)
    checked = {"loss": point.alive}
    # The state of an earlier run may look ahead to anywhere, which is no fault of the problem: the
    # run diverges, as it would at any later step.
    if not kept or optimizer.lookahead(state) is None:
        checked["gradient"] = point.grads.isfinite().all(1)
    for what, finite in checked.items():
        if not finite.all():
            row = int((~finite).nonzero()[0]) % len(objective.instances)
            raise SuiteError(
                f"problem {type(objective.problem).__name__}: the {what} of instance "
                f"{objective.instances[row]} is not finite at θ_0, look at its init() and loss()"
            )
    return point


def advance(objective: Objective, optimizer: Optimizer, point: Point, reuse: bool = False) -> Point:
    """One update, and the evaluation of where it leads.

    With `reuse` the next iterate and state may take the memory of these, which is faster by a
    third: the state of a large optimizee is read and written in the cache.
    """
    in_place = reuse and has(optimizer, "update_in_place")
    update = optimizer.update_in_place if in_place else optimizer.update
    updates, state = update(point.grads, point.state, point.params)
    if not point.intact:
        updates = torch.where(point.alive.unsqueeze(1), updates, 0.0)
    # Neither losses nor gradients that points hold are views of θ.
    same = reuse and updates.dtype == point.theta.dtype
    theta = point.theta.add_(updates) if same else point.theta + updates
    step = point.step + 1
    return _evaluated(objective, optimizer, step, theta, state, point.alive, point.intact)


def _evaluated(
    objective: Objective,
    optimizer: Optimizer,
    step: int,
    theta: Tensor,
    state: Any,
    alive: Tensor,
    intact: bool,
) -> Point:
    ahead = optimizer.lookahead(state)
    if ahead is None:
        loss, grads = objective.value_and_grad(theta, step)
    else:
        loss = objective.value(theta, step)
        _, grads = objective.value_and_grad(theta + ahead, step)
    # New memory, for a problem's loss may be a view of θ. If their sum is finite, so are all.
    if intact and math.isfinite(loss.sum().item()):
        return Point(step, theta, state, loss.clone(), grads, alive, objective.spec, True)
    # A diverged run is frozen, and its zeros keep it out of everything that is summed over runs.
    # Neither infinite nor NaN, in half the operations of `isfinite`.
    alive = alive & (loss.abs() < torch.inf)
    loss = torch.where(alive, loss, torch.inf)
    grads = torch.where(alive.unsqueeze(1), grads, 0.0)
    return Point(step, theta, state, loss, grads, alive, objective.spec)
