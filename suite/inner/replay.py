"""Steps of an optimizee run on a GPU, each made by one recorded call.

A step of a small problem is a hundred launches, and takes as long as the host needs for them.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from l2l.suite.core.abilities import has
from l2l.suite.core.recorded import Recorded, Recordings, copy_of, is_recordable
from l2l.suite.core.types import Optimizer
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point, advance

# Steps of one kind before they are recorded, which takes as long as some ten of them.
STEPS = 50
# Coordinates of all runs beyond which the GPU works longer than the host launches.
MOST = 2**19
# Steps that are compared with those that are not recorded, and how far they may differ, relative to
# their norm: convolutions need not round the same way twice.
CHECKS = 2
TOLERANCE = 1e-3

log = logging.getLogger("suite")
_recordings = Recordings(calls=STEPS)
# Those that a run is using.
_taken: set[Recorded] = set()


class _Memory(NamedTuple):
    """What a recorded step reads; except for φ and the data, it writes the next one into it."""

    phi: Tensor | None
    theta: Tensor
    state: Any
    loss: Tensor
    grads: Tensor
    alive: Tensor
    fixed: Any
    batch: Any

    @staticmethod
    def of(objective: Objective, optimizer: Optimizer, point: Point) -> _Memory:
        """Before the step from a point."""
        moving = (point.theta, point.state, point.loss, point.grads, point.alive)
        batch = objective.batch_at(point.step + 1)
        return _Memory(getattr(optimizer, "weights", None), *moving, objective.fixed, batch)

    def point(self, step: int, objective: Objective) -> Point:
        """The point that is in it."""
        moving = (self.theta, self.state, self.loss, self.grads, self.alive)
        return Point(step, *moving, objective.spec)


def replayed(
    objective: Objective, optimizer: Optimizer, point: Point, steps: int
) -> Iterator[Point] | None:
    """The points of the next steps, by a recorded step; None if there is none for them.

    Only the last one's state is its own, and all iterates are if the optimizer reads them.
    """
    if not is_recordable(point.theta) or point.theta.numel() > MOST:
        return None
    memory = _Memory.of(objective, optimizer, point)
    leaves, structure = tree_flatten(memory)
    given = [x for x in leaves if isinstance(x, Tensor)]
    if any(x is not None and not isinstance(x, Tensor) for x in leaves):
        return None
    of_whom = (id(objective.problem), objective.copies, _name(optimizer))
    name = (*of_whom, structure, *[x is None for x in leaves])

    def memory_in(tensors: Sequence[Tensor]) -> _Memory:
        rest = iter(tensors)
        filled = [None if x is None else next(rest) for x in leaves]
        found: _Memory = tree_unflatten(filled, structure)
        return found

    def step(own: list[Tensor]) -> list[Tensor]:
        _step_in(memory_in(own), objective, optimizer)
        return []

    recorded = _recordings.find(name, step, given, steps)
    # Runs that take turns cannot share one memory.
    if recorded is None or recorded in _taken:
        return None
    return _points(objective, optimizer, point, steps, recorded, memory_in(recorded.given))


def _points(
    objective: Objective,
    optimizer: Optimizer,
    point: Point,
    steps: int,
    recorded: Recorded,
    memory: _Memory,
) -> Iterator[Point]:
    """`replayed`, where `memory` is what the recorded step reads and writes."""
    _fill(memory, _Memory.of(objective, optimizer, point))
    reads_theta = not has(optimizer, "ignores_params")
    last = point.step + steps
    _taken.add(recorded)
    try:
        while point.step < last and not recorded.forbidden:
            number = point.step + 1
            _fill(memory.batch, objective.batch_at(number))
            expected = None
            if recorded.replays < CHECKS:
                before = _owned(memory.point(point.step, objective), theta=True, state=True)
                expected = advance(objective, optimizer, before)
            recorded.replay()
            point = memory.point(number, objective)
            if expected is not None and not _near(point, expected):
                log.debug("a step on %s gives other numbers when recorded", objective.problem)
                _recordings.forbid(recorded)
                point = expected
            else:
                is_last = number == last
                point = _owned(point, theta=reads_theta or is_last, state=is_last)
            yield point
    finally:
        _taken.discard(recorded)
    while point.step < last:
        point = advance(objective, optimizer, point)
        yield point


def _step_in(memory: _Memory, objective: Objective, optimizer: Optimizer) -> None:
    """One step from what is in the memory, into it."""
    if memory.phi is not None:
        # In here, so that what it computes of φ is computed of each φ.
        optimizer = optimizer.with_weights(memory.phi)  # type: ignore[attr-defined]
    pinned = objective.pinned(memory.fixed, memory.batch)
    after = advance(pinned, optimizer, memory.point(0, objective), reuse=True)
    moved = memory._replace(
        theta=after.theta, state=after.state, loss=after.loss, grads=after.grads, alive=after.alive
    )
    # Nothing may be written before all that shares its memory is read.
    shared = {x.untyped_storage().data_ptr() for x in _tensors(memory)}
    _fill(memory, tree_map(lambda x: x.clone() if _is_of(x, shared) else x, moved))


def _fill(memory: Any, tree: Any) -> None:
    """Copies a tree's tensors into those of another of the same structure.

    Raises:
        ValueError: it is of another one.
    """
    own, others = _tensors(memory), _tensors(tree)
    if [x.shape for x in own] != [x.shape for x in others]:
        raise ValueError("the state of an optimizer has another structure after a step")
    for one, other in zip(own, others, strict=True):
        one.copy_(other, non_blocking=True)


def _copies(tree: Any) -> Any:
    return tree_map(lambda x: copy_of(x) if isinstance(x, Tensor) else x, tree)


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def _is_of(leaf: Any, storages: set[int]) -> bool:
    return isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() in storages


def _owned(point: Point, theta: bool, state: bool) -> Point:
    """The point with copies of what it has, of θ and the state if they are wanted."""
    return dataclasses.replace(
        point,
        theta=point.theta.clone() if theta else point.theta,
        state=_copies(point.state) if state else point.state,
        loss=point.loss.clone(),
        grads=point.grads.clone(),
        alive=point.alive.clone(),
    )


def _near(point: Point, other: Point) -> bool:
    """Whether two points are the same but for rounding."""
    found, expected = (
        _tensors((each.theta, each.state, each.loss, each.grads, each.alive))
        for each in (point, other)
    )
    return all(
        bool(
            (a.double() - b.double()).nan_to_num().norm()
            <= TOLERANCE * b.double().nan_to_num().norm()
        )
        for a, b in zip(found, expected, strict=True)
    )


def _name(optimizer: Optimizer) -> Hashable:
    """What tells optimizers apart whose steps differ in more than φ."""
    own = vars(optimizer)
    settled = own.get("weights") is not None and not any(
        isinstance(x, Tensor) for name, x in own.items() if name != "weights"
    )
    return (type(optimizer), repr(optimizer)) if settled else id(optimizer)
