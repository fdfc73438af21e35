"""The legend above a figure's panels."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from l2l.suite.report.figures.text import wrapped

WIDTH = 40  # letters of a label's line


def place_legend(figure: Figure, handles: Sequence[Artist]) -> float:
    """Name the `handles` in as few rows as fit the figure's width, about equally long.

    Labels of any length are shown whole, in several lines.

    Returns:
        The legend's height in inches.
    """
    labels = [wrapped(str(handle.get_label()), WIDTH) for handle in handles]
    for rows in range(1, len(handles) + 1):
        columns = -(-len(handles) // rows)
        legend = figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=columns,
            handlelength=3.4,
            columnspacing=1.8,
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return float(legend.get_window_extent().height / figure.dpi)
        legend.remove()
    return 0.0
