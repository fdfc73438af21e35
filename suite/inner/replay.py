"""Steps of an optimizee run on a GPU, each made by one recorded call.

A step of a small problem is a hundred launches, and takes as long as the host needs for them.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import (
    tree_flatten,
    tree_leaves,
    tree_map,
    tree_unflatten,
)

from l2l.suite.core.abilities import has
from l2l.suite.core.recorded import Recorded, Recordings, copy_of, is_recordable
from l2l.suite.core.types import Optimizer
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point, advance

# Steps of one kind, those to come included, for which recording one is worth its time.
STEPS = 50
# Coordinates of all runs beyond which the GPU works longer than the host launches.
MOST = 2**18
# Steps that are compared with those that are not recorded, and how far they may differ, relative to
# their norm: convolutions need not round the same way twice.
CHECKS = 2
TOLERANCE = 1e-3

log = logging.getLogger("suite")
_recordings = Recordings(calls=STEPS, most=8)
# Those that a run is using.
_taken: set[Recorded] = set()


class _Moving(NamedTuple):
    """What a step reads and writes."""

    theta: Tensor
    state: Any
    loss: Tensor
    grads: Tensor
    alive: Tensor

    @staticmethod
    def of(point: Point) -> _Moving:
        """What of a point moves."""
        return _Moving(point.theta, point.state, point.loss, point.grads, point.alive)

    def point(self, step: int, objective: Objective) -> Point:
        """The point that is in it."""
        return Point(step, *self, objective.spec)


class _Memory(NamedTuple):
    """What a recorded step reads, of which it writes the next `moving` in place."""

    phi: Tensor | None
    moving: _Moving
    fixed: Any
    batch: Any


def replayed(
    objective: Objective, optimizer: Optimizer, point: Point, steps: int
) -> Iterator[Point] | None:
    """The points of the next steps, by a recorded step; None if there is none for them.

    Only the last one's state is its own, and all iterates are if the optimizer reads them.
    """
    if not is_recordable(point.theta) or point.theta.numel() > MOST:
        return None
    batch = objective.batch_at(point.step + 1)
    phi = getattr(optimizer, "weights", None)
    memory = _Memory(phi, _Moving.of(point), objective.fixed, batch)
    leaves, structure = tree_flatten(memory)
    if any(x is not None and not isinstance(x, Tensor) for x in leaves):
        return None
    given = [x for x in leaves if x is not None]
    there = tuple(x is not None for x in leaves)
    pinned = objective.pinned({}, None)  # without the tensors of this run

    def memory_in(tensors: Sequence[Tensor]) -> _Memory:
        rest = iter(tensors)
        found: _Memory = tree_unflatten([next(rest) if x else None for x in there], structure)
        return found

    def step(own: list[Tensor]) -> list[Tensor]:
        _step_in(memory_in(own), pinned, optimizer)
        return []

    # The recording keeps both objects, so no others have their numbers.
    name = (id(objective.problem), _name(optimizer), structure, there)
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
    reads_theta = not has(optimizer, "ignores_params")
    last = point.step + steps
    _taken.add(recorded)
    try:
        phi = getattr(optimizer, "weights", None)
        _fill(memory[:-1], (phi, _Moving.of(point), objective.fixed))
        batches = objective.batches_of(range(point.step + 1, last + 1))
        while point.step < last and not recorded.forbidden:
            if not _fill(memory.batch, next(batches)):
                # The rest goes on from the memory, which may then serve others.
                point = _owned(memory.moving.point(point.step, objective), True, True)
                break
            expected = None
            if recorded.replays < CHECKS:
                before = _owned(memory.moving.point(point.step, objective), True, True)
                expected = advance(objective, optimizer, before)
            recorded.replay()
            point = memory.moving.point(point.step + 1, objective)
            if expected is not None and not _near(_Moving.of(point), _Moving.of(expected)):
                log.debug("a step on %s gives other numbers when recorded", objective.problem)
                recorded.forbidden = True
                point = expected
            else:
                is_last = point.step == last
                point = _owned(point, theta=reads_theta or is_last, state=is_last)
            yield point
    finally:
        _taken.discard(recorded)
    while point.step < last:
        point = advance(objective, optimizer, point)
        yield point


def _step_in(memory: _Memory, pinned: Objective, optimizer: Optimizer) -> None:
    """One step from what is in the memory, into it."""
    if memory.phi is not None:
        # In here, so that what it computes of φ is computed of each φ.
        optimizer = optimizer.with_weights(memory.phi)  # type: ignore[attr-defined]
    there = pinned.pinned(memory.fixed, memory.batch)
    after = advance(there, optimizer, memory.moving.point(0, there), reuse=True)
    moved = _Moving.of(after)
    # Nothing may be written before all that shares its memory is read.
    shared = {x.untyped_storage().data_ptr() for x in _tensors(memory)}
    pairs = [
        (own, x.clone() if x.untyped_storage().data_ptr() in shared else x)
        for own, x in zip(_tensors(memory.moving), _tensors(moved), strict=True)
        if x is not own
    ]
    for own, x in pairs:
        own.copy_(x)


def _pairs(tree: Any, other: Any) -> list[tuple[Tensor, Tensor]] | None:
    """The tensors of two trees, side by side; None if structures, shapes or types differ."""
    (leaves, form), (others, other_form) = tree_flatten(tree), tree_flatten(other)
    if form != other_form:
        return None
    pairs = []
    for a, b in zip(leaves, others, strict=True):
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            if a.shape != b.shape or a.dtype != b.dtype:
                return None
            pairs.append((a, b))
        elif not (a is None and b is None):
            return None
    return pairs


def _fill(memory: Any, tree: Any) -> bool:
    """Copies a tree's tensors into those of one that is alike; False if it is not."""
    pairs = _pairs(memory, tree)
    for own, x in pairs or ():
        own.copy_(x, non_blocking=True)
    return pairs is not None


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def _copies(tree: Any) -> Any:
    return tree_map(lambda x: copy_of(x) if isinstance(x, Tensor) else x, tree)


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


def _near(found: _Moving, expected: _Moving) -> bool:
    """Whether two are the same but for rounding; what is not finite must be equal."""

    def near(a: Tensor, b: Tensor) -> bool:
        a, b = a.double(), b.double()
        apart = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, a - b)
        size = torch.where(b.isfinite(), b, 0.0).norm()
        return bool(apart.norm() <= TOLERANCE * size)

    pairs = _pairs(found, expected)
    return pairs is not None and all(near(a, b) for a, b in pairs)


def _name(optimizer: Optimizer) -> Hashable:
    """What tells optimizers apart whose steps differ in more than φ."""
    if getattr(optimizer, "weights", None) is None or not dataclasses.is_dataclass(optimizer):
        return id(optimizer)
    # With another φ it has the very same settings.
    names = [field.name for field in dataclasses.fields(optimizer)]
    return (type(optimizer), *[id(getattr(optimizer, x)) for x in names if x != "weights"])
