"""The vertical axis of losses: logarithmic where it can be, linear where losses are negative."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from l2l.suite.report.statistics.intervals import Floats

# A curve that leaves the panel upwards, such as ADAM's first steps in the paper, may: panels end
# this many times above the highest loss at their first shown step.
HEADROOM = 2.0


def is_logarithmic(drawn: Sequence[Floats]) -> bool:
    """Whether losses are shown on a logarithmic axis: none is negative, and some are above 0."""
    return all((curve >= 0).all() for curve in drawn) and any((curve > 0).any() for curve in drawn)


def scale_losses(axis: Axes, drawn: Sequence[Floats]) -> None:
    """A vertical axis, labelled well, around what was drawn; losses of 0 lie below a log axis.

    Args:
        axis: to scale.
        drawn: finite losses of each curve, in the order of its steps.
    """
    drawn = [curve for curve in drawn if len(curve)]
    if not drawn:
        axis.set_yticks([])
        axis.text(0.5, 0.5, "no losses to show", ha="center", transform=axis.transAxes)
    elif is_logarithmic(drawn):
        _logarithmic(axis, [curve[curve > 0] for curve in drawn if (curve > 0).any()])
    else:
        _linear(axis, drawn)


def _logarithmic(axis: Axes, positive: Sequence[Floats]) -> None:
    axis.set_yscale("log")
    highest, start = max(c.max() for c in positive), max(c[0] for c in positive)
    top, bottom = min(highest, HEADROOM * start), min(c.min() for c in positive)
    room = max(top / bottom, 1.01) ** 0.05
    axis.set_ylim(bottom / room, top * room)
    axis.yaxis.set_major_locator(LogLocator(subs=_ticks(top / bottom), numticks=20))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _linear(axis: Axes, drawn: Sequence[Floats]) -> None:
    highest, start = max(c.max() for c in drawn), max(c[0] for c in drawn)
    bottom = min(c.min() for c in drawn)
    top = min(highest, bottom + HEADROOM * (start - bottom)) if start > bottom else highest
    room = 0.05 * (top - bottom) or max(abs(top), 1.0) * 0.01
    axis.set_ylim(bottom - room, top + room)
    axis.yaxis.set_major_locator(MaxNLocator(6))


def _ticks(span: float) -> tuple[float, ...]:
    """Which multiples of powers of ten carry a label, so that some four to six do."""
    for limit, ticks in (
        (3, (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)),
        (12, (1.0, 2.0, 3.0, 5.0)),
        (200, (1.0, 2.0, 5.0)),
        (500, (1.0, 3.0)),
    ):
        if span < limit:
            return ticks
    return (1.0,)
