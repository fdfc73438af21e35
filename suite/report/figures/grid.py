"""The panels of a grid in a figure: final losses against the field that varies (Figure 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from l2l.suite.plan.definitions import PanelInfo
from l2l.suite.report.figures.panel import draw_own, draw_paper
from l2l.suite.report.figures.scale import scale_losses
from l2l.suite.report.figures.style import CurveStyle
from l2l.suite.report.figures.text import shown
from l2l.suite.report.paper import final_loss


def grid_title(panel: PanelInfo) -> str:
    """What the panels of one axis share, such as ``layers 1``."""
    shared = list(panel.at.items())[:-1]
    return ", ".join(f"{name} {value}" for name, value in shared) or panel.grid


def same_axis(panel: PanelInfo) -> tuple[str, ...]:
    """Equal for panels that one axis shows: a grid's that differ in its last field alone."""
    if not panel.grid:
        return ("", panel.name)
    return (panel.grid, *map(str, list(panel.at.values())[:-1]))


def draw_grid(
    axis: Axes,
    panels: Sequence[PanelInfo],
    final: pd.DataFrame,
    styles: Mapping[str, CurveStyle],
) -> None:
    """Draw mean final losses with 95 % intervals, the paper's points under them.

    Args:
        axis: to draw on.
        panels: of one axis, see `same_axis`; numbers of the last field may come in any order.
        final: the rows of final.csv of their experiment.
        styles: by optimizer.
    """
    field = list(panels[0].at)[-1]
    numeric = all(isinstance(panel.at[field], int | float) for panel in panels)
    if numeric:
        panels = sorted(panels, key=lambda panel: float(panel.at[field]))
    values = [panel.at[field] for panel in panels]
    places = values if numeric else list(range(len(values)))
    drawn = []
    for order, name in enumerate(dict.fromkeys(o for panel in panels for o in panel.optimizers)):
        style = styles[name]
        # Whatever number of updates it is after: the paper's Figure 6 shows it at the same place.
        theirs = np.array(
            [final_loss(panel.paper, name) if panel.paper else np.nan for panel in panels]
        )
        if np.isfinite(theirs).any():
            draw_paper(axis, places, theirs, style)
            drawn.append(theirs[np.isfinite(theirs)])
        rows = final[(final["optimizer"] == name) & (final["n"] > 0)].set_index("panel")
        there = [panel.name for panel in panels if panel.name in rows.index]
        if there:
            at = [place for place, panel in zip(places, panels, strict=True) if panel.name in there]
            means = rows.loc[there, "mean"].to_numpy()
            band = (rows.loc[there, "ci_low"], rows.loc[there, "ci_high"])
            draw_own(axis, at, means, band, style, order)
            drawn.append(means)
    scale_losses(axis, drawn)
    if not numeric:
        axis.set_xticks(places, [shown(str(value)) for value in values])
    axis.set_xlabel(shown(field))
    axis.grid(True, which="major")
