"""The one loop over optimization steps: tuning, evaluating, meta-training and tracing use it."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from l2l.suite.core.abilities import has
from l2l.suite.core.types import Optimizer
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.replay import replayed
from l2l.suite.inner.step import Point, advance, start


def walk(
    objective: Objective, optimizer: Optimizer, point: Point, steps: int, whole: bool = False
) -> list[Point]:
    """The points of a window: θ_0, which is given, … θ_T for a window of T `steps`.

    Unless they are wanted `whole`, those between the ends have no state, and no iterate if the
    optimizer ignores it.
    """
    points = [point]
    ignored = has(optimizer, "ignores_params")
    recorded = None if whole else replayed(objective, optimizer, point, steps)
    for step in range(steps):
        if recorded is not None:
            point = next(recorded)
        else:
            point = advance(objective, optimizer, point, reuse=step > 0 and ignored and not whole)
        points.append(point)
        if step > 0 and not whole:
            # The state is most of a point's memory.
            theta = points[-2].theta.new_empty(0) if ignored else points[-2].theta
            points[-2] = replace(points[-2], theta=theta, state=None)
    # What the window's gradient needs comes in its place.
    objective.release_batch()
    return points


def descend(objective: Objective, optimizer: Optimizer, steps: int) -> Iterator[Point]:
    """The points after 0, 1, …, `steps` updates; only the last one's θ and state are to be read."""
    state = None
    for number in range(optimizer.earlier_runs):
        earlier = _run(objective.earlier(number), optimizer, steps, state)
        (last,) = collections.deque(earlier, maxlen=1)
        state = last.state
    yield from _run(objective, optimizer, steps, state)


def _run(objective: Objective, optimizer: Optimizer, steps: int, state: Any) -> Iterator[Point]:
    point = start(objective, optimizer, state)
    yield point
    recorded = replayed(objective, optimizer, point, steps)
    if recorded is not None:
        yield from recorded
        return
    for _ in range(steps):
        point = advance(objective, optimizer, point, reuse=True)
        yield point
