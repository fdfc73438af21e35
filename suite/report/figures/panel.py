"""One panel of a figure: the paper's curves, ours over them with bands."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from l2l.suite.plan.definitions import PanelInfo
from l2l.suite.report.curves import Curve
from l2l.suite.report.figures.scale import scale_losses
from l2l.suite.report.figures.style import PAPER, CurveStyle
from l2l.suite.report.paper import panel_curves
from l2l.suite.report.statistics.intervals import Floats

BAND_ALPHA = 0.2
# More steps than that are finer than the line they are drawn with.
MOST_POINTS = 400


def draw_panel(
    axis: Axes,
    panel: PanelInfo,
    curves: Mapping[str, Curve],
    styles: Mapping[str, CurveStyle],
    mark_all: bool = False,
) -> None:
    """Draw one panel from `curves` by optimizer, a marker at each of their steps or at some five.

    `mark_all` is for curves of a few steps: it shows which these are.
    """
    drawn = []
    if panel.paper is not None:
        theirs = panel_curves(panel.paper)
        for place, name in enumerate(panel.optimizers):
            if name not in theirs:
                continue
            curve = theirs[name]
            shown = curve[curve["updates"].between(panel.first_shown, panel.steps)]
            if len(shown):
                x, losses = shown["updates"].to_numpy(), shown["loss"].to_numpy()
                # Half a marker's distance from those of our curve.
                markers = _spread_markers(len(x), place + 0.5, len(panel.optimizers))
                draw_paper(axis, x, losses, styles[name], markers)
                drawn.append(losses)
    for place, name in enumerate(panel.optimizers):
        if name not in curves or not curves[name].n:
            continue
        own = curves[name]
        at = np.flatnonzero((own.steps >= panel.first_shown) & (own.steps <= panel.steps))
        if len(at) > MOST_POINTS:
            at = at[np.linspace(0, len(at) - 1, MOST_POINTS).round().astype(int)]
        if len(at):
            spread = _spread_markers(len(at), place, len(panel.optimizers))
            band, marked = (own.low[at], own.high[at]), None if mark_all else spread
            draw_own(axis, own.steps[at], own.mean[at], band, styles[name], place, marked)
            drawn.append(own.mean[at])
    scale_losses(axis, drawn)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_xlim(panel.first_shown, panel.steps)
    axis.set_xlabel("Number of updates")
    axis.grid(True, which="major")


def draw_paper(
    axis: Axes,
    x: ArrayLike,
    losses: Floats,
    style: CurveStyle,
    markers: tuple[int, int] | None = None,
) -> None:
    """Draw the paper's losses at the places `x`, a hollow marker at each or where asked."""
    axis.plot(
        x,
        losses,
        color=style.paper_colour,
        marker=style.marker,
        markevery=markers,
        zorder=2,
        **PAPER,
    )


def draw_own(
    axis: Axes,
    x: ArrayLike,
    mean: Floats,
    band: tuple[ArrayLike, ArrayLike],
    style: CurveStyle,
    place: int,
    markers: tuple[int, int] | None = None,
) -> None:
    """Draw our mean losses at the places `x` in their band, a marker at each or where asked.

    What comes first in the experiment, the learned optimizer as a rule, lies on top.
    """
    axis.fill_between(x, *band, color=style.colour, alpha=BAND_ALPHA, linewidth=0, zorder=3)
    axis.plot(
        x,
        mean,
        **style.line,
        marker=style.marker,
        markersize=4,
        markeredgewidth=0,
        markevery=markers,
        zorder=10 - place * 0.1,
    )


def _spread_markers(points: int, place: float, curves: int) -> tuple[int, int]:
    """First and distance of some five markers, staggered so that curves' markers do not meet."""
    every = max(1, points // 5)
    return int(every * (place + 0.5) / curves) % max(points, 1), every
