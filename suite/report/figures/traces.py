"""Figures 10 to 13: updates of single coordinates over time, and as functions of the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from l2l.suite.plan.definitions import ExperimentInfo, PanelInfo
from l2l.suite.report.figures.files import Drawing
from l2l.suite.report.figures.legend import place_legend
from l2l.suite.report.figures.style import CurveStyle
from l2l.suite.report.figures.svg import INK
from l2l.suite.report.result_tables import Tables

OVER_TIME = 2  # coordinates in Figure 10; Figures 11 to 13 have one each of three
PER_ROW = 8


def draw_traces(
    experiment: ExperimentInfo, tables: Tables, styles: Mapping[str, CurveStyle]
) -> Iterator[Drawing]:
    """The figures of each traced panel: one over time, and one for each of three coordinates."""
    for panel in experiment.panels:
        recorded, responses = (
            table[(table["experiment"] == experiment.name) & (table["panel"] == panel.name)]
            for table in (tables.traces, tables.responses)
        )
        if not len(recorded):
            continue
        name = f"{experiment.name}-{panel.name}"
        yield Drawing(
            f"{name}-updates",
            f"{panel.title}: the updates proposed for single coordinates at the points of one "
            "trajectory, at every step (the paper's Figure 10).",
            partial(_over_time, panel, recorded, styles),
        )
        for number, coordinate in enumerate(responses["coordinate"].unique(), 1):
            yield Drawing(
                f"{name}-response-{number}",
                f"{panel.title}, coordinate {coordinate}: the update proposed at each step as "
                "a function of the gradient, after the history of the trajectory; a dot marks "
                f"the gradient that was met (the paper's Figure {10 + number}).",
                partial(
                    _responses,
                    panel,
                    responses[responses["coordinate"] == coordinate],
                    recorded[recorded["coordinate"] == coordinate],
                    styles,
                ),
            )


def _over_time(
    panel: PanelInfo, recorded: pd.DataFrame, styles: Mapping[str, CurveStyle]
) -> Figure:
    coordinates = recorded["coordinate"].unique()[:OVER_TIME]
    figure = Figure(figsize=(8.4, 3.1), layout="constrained")
    axes = figure.subplots(1, len(coordinates), squeeze=False).ravel()
    for axis, coordinate in zip(axes, coordinates, strict=True):
        shown = recorded[recorded["coordinate"] == coordinate]
        _lines(axis, panel, shown, "step", styles)
        axis.axhline(0, color=INK, linewidth=0.5, alpha=0.5, zorder=1)
        axis.set_title(f"Coordinate {coordinate}")
        axis.set_xlim(0, panel.steps)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.set_xlabel("Step")
        axis.grid(True)
    axes[0].set_ylabel("Update")
    _legend(figure, panel, recorded, styles)
    return figure


def _responses(
    panel: PanelInfo,
    responses: pd.DataFrame,
    recorded: pd.DataFrame,
    styles: Mapping[str, CurveStyle],
) -> Figure:
    steps = np.sort(responses["step"].unique())
    columns = min(PER_ROW, len(steps))
    rows = -(-len(steps) // columns)
    figure = Figure(figsize=(1.15 * columns + 0.6, 1.02 * rows + 0.75), layout="constrained")
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    # Updates shrink along a run: one scale for all would flatten the later steps.
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey="row")
    span = responses["gradient"].abs().max()
    for axis, step in zip(axes.ravel(), steps, strict=False):
        _lines(axis, panel, responses[responses["step"] == step], "gradient", styles)
        for name, met in _by_optimizer(panel, recorded[recorded["step"] == step]):
            axis.plot(
                met["gradient"], met["update"], "o", color=styles[name].colour, markersize=2.6
            )
        axis.axhline(0, color=INK, linewidth=0.4, alpha=0.4, zorder=1)
        axis.axvline(0, color=INK, linewidth=0.4, alpha=0.4, zorder=1)
        axis.set_title(f"{step}", fontsize=7.5, pad=2, fontweight="normal")
        axis.set_xticks([-span, 0, span], [f"−{span:.2g}", "0", f"{span:.2g}"])
        # Labels of neighbours would meet if those at the ends were centred; inner axes have none.
        for label, side in zip(axis.get_xticklabels(), ("left", "center", "right"), strict=False):
            label.set_horizontalalignment(side)
        axis.yaxis.set_major_locator(MaxNLocator(3))
        axis.tick_params(labelsize=6.5, length=2, width=0.5)
        for spine in axis.spines.values():
            spine.set(linewidth=0.5, visible=True)
    for axis in axes.ravel()[len(steps) :]:
        axis.set_visible(False)
    figure.supxlabel("Gradient", fontsize=9)
    figure.supylabel("Update", fontsize=9)
    _legend(figure, panel, responses, styles)
    return figure


def _by_optimizer(panel: PanelInfo, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each of the panel's optimizers that has some, the first one last, on top."""
    for name in reversed(panel.optimizers):
        own = rows[rows["optimizer"] == name]
        if len(own):
            yield name, own


def _lines(
    axis: Axes, panel: PanelInfo, rows: pd.DataFrame, x: str, styles: Mapping[str, CurveStyle]
) -> None:
    """The updates of each optimizer over the column `x`."""
    for name, own in _by_optimizer(panel, rows):
        axis.plot(
            own[x],
            own["update"],
            color=styles[name].colour,
            linestyle=styles[name].dash,
            linewidth=0.6 * styles[name].width,
            zorder=10 - panel.optimizers.index(name),
        )


def _legend(
    figure: Figure, panel: PanelInfo, rows: pd.DataFrame, styles: Mapping[str, CurveStyle]
) -> None:
    there = set(rows["optimizer"])
    handles = [
        Line2D([], [], color=styles[name].colour, linestyle=styles[name].dash, label=name)
        for name in panel.optimizers
        if name in there
    ]
    place_legend(figure, handles)
