"""What a trace records (Appendix B), as experiments give it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from l2l.suite.core.bounds import Above, AtLeast, Count, Natural


@dataclass(frozen=True)
class Trace:
    """What is recorded of single coordinates along a panel's trajectories (Appendix B).

    Args:
        along: the optimizer, by its label, whose trajectories they are.
        instances: of how many test instances; all if not given.
        coordinates: how many of each instance.
        shown: which of them are given, by their place in the flat parameters; the rest is drawn.
            The first three are those that the figures show.
        probed: of how many the update is recorded as a function of the gradient.
        response_steps: at which steps it is, counted from the first.
        points: gradients that it is recorded for.
        reach: how far these go either way, in units of the largest gradient of the coordinate
            over `response_steps`.
        lags: over how many steps the effect of one gradient is followed, at most half of all.
    """

    along: str
    instances: Count | None = None
    coordinates: Count = 32
    shown: tuple[Natural, ...] = ()
    probed: Count = 8
    response_steps: Count = 32
    points: Annotated[int, AtLeast(21)] = 81
    reach: Annotated[float, Above(0)] = 1.0
    lags: Count = 32
