"""The figures: our mean curves with their bands, the paper's under them, held-out losses below."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from l2l.suite.plan.definitions import ExperimentInfo, PanelInfo
from l2l.suite.report.curves import Curve, CurveTable
from l2l.suite.report.figures.grid import draw_grid, grid_title, same_axis
from l2l.suite.report.figures.legend import place_legend
from l2l.suite.report.figures.panel import BAND_ALPHA, draw_panel
from l2l.suite.report.figures.scale import is_logarithmic
from l2l.suite.report.figures.style import GREY, PAPER, CurveStyle
from l2l.suite.report.figures.text import shown, unreadable, wrapped

log = logging.getLogger("suite")

PER_ROW = 4
# Inches: of a panel without its title, of a line of a title, of a panel of held-out losses, and of
# a note.
PANEL, TITLE_LINE, HELD_OUT, NOTE_LINE = 2.6, 0.15, 2.1, 0.16


def draw_experiment(
    experiment: ExperimentInfo,
    curves: CurveTable,
    held_out: CurveTable,
    final: pd.DataFrame,
    styles: Mapping[str, CurveStyle],
) -> Figure:
    """One figure, a panel for each of the experiment's, in rows of up to four.

    Panels of a grid that differ in its last field alone share one. A panel with held-out losses has
    these below it, on an axis of their own: they may be far from the losses of minibatches. Notices
    on the data, and runs that diverged or are missing, are footnotes of the figure. To be called
    within `suite.report.figures.style.own_settings`.

    Args:
        experiment: whose panels are drawn.
        curves: of the figure's panels.
        held_out: the same of held-out losses, where there are any.
        final: from `suite.report.final.final_losses`, for the panels of grids.
        styles: by optimizer.
    """
    slots = [tuple(own) for _, own in itertools.groupby(experiment.panels, same_axis)]
    columns = min(PER_ROW, len(slots))
    width = max(3.1 * columns, 6.2)
    found, apart = (
        [[_curves_of(experiment.name, panel, some) for panel in slot] for slot in slots]
        for some in (curves, held_out)
    )
    remarks = [
        [remark for each in zip(*parts, strict=True) for remark in _remarks(*each)]
        for parts in zip(slots, found, apart, strict=True)
    ]
    notes = list(dict.fromkeys(remark for own in remarks for remark in own))
    titles = [
        wrapped(grid_title(slot[0]) if slot[0].grid else slot[0].title, 38) + _mark(notes, said)
        for slot, said in zip(slots, remarks, strict=True)
    ]
    lines = [
        line
        for note in (
            *(f"{_mark(notes, [note])} {note}" for note in notes),
            *_of_letters(experiment),
        )
        for line in wrapped(note, int(width * 16)).splitlines()
    ]
    notes_height = NOTE_LINE * len(lines)
    figure = Figure(figsize=(width, 1), layout="constrained")
    legend_height = place_legend(figure, _handles(experiment, styles))
    titles_height = TITLE_LINE * max(title.count("\n") + 1 for title in titles)
    # A grid's axes show final losses, which have no steps.
    below = [bool(own[0]) and not slot[0].grid for slot, own in zip(slots, apart, strict=True)]
    rows = [below[start : start + columns] for start in range(0, len(slots), columns)]
    heights = [[PANEL + titles_height, HELD_OUT][: 1 + any(row)] for row in rows]
    height = sum(map(sum, heights)) + legend_height + notes_height
    figure.set_figheight(height)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    share = notes_height / height
    engine.set(rect=(0.0, share, 1.0, 1.0 - share), w_pad=0.06)
    axes = _axes(figure, rows, heights)
    for (axis, under), slot, own, other, title in zip(
        axes, slots, found, apart, titles, strict=False
    ):
        if slot[0].grid:
            draw_grid(axis, slot, final[final["experiment"] == experiment.name], styles)
        else:
            draw_panel(axis, slot[0], own[0], styles)
        axis.set_title(title)
        if under is not None:
            draw_panel(under, replace(slot[0], paper=None), other[0], styles, mark_all=True)
            axis.set_xlabel("")
    said = ""
    for place, ((axis, _), slot) in enumerate(zip(axes, slots, strict=False)):
        before, said = said, "Final loss" if slot[0].grid else "Loss"
        if place % columns == 0 or said != before:
            axis.set_ylabel(said)
    for axis, _ in axes[len(slots) :]:
        axis.set_visible(False)
    figure.text(0.008, 0.04 / height, "\n".join(lines), fontsize=7.5, va="bottom")
    return figure


def _axes(
    figure: Figure, rows: Sequence[Sequence[bool]], heights: Sequence[Sequence[float]]
) -> list[tuple[Axes, Axes | None]]:
    """An axis for each place of each row, and one below it where `rows` says so.

    Args:
        figure: gets the axes.
        rows: whether a panel has held-out losses; the last row may be shorter.
        heights: of each row's own axes, and of those below where it has such.
    """
    columns = len(rows[0])
    ratios = [each for row in heights for each in row]
    lines = iter(figure.subplots(len(ratios), columns, squeeze=False, height_ratios=ratios))
    found: list[tuple[Axes, Axes | None]] = []
    for row in rows:
        upper = next(lines)
        below = [*row, *[False] * (columns - len(row))]
        if not any(row):
            found += [(axis, None) for axis in upper]
            continue
        lower = next(lines)
        lower[below.index(True)].set_ylabel("Held-out loss")
        for axis, under, there in zip(upper, lower, below, strict=True):
            under.set_visible(there)
            found.append((axis, under if there else None))
    return found


def _curves_of(experiment: str, panel: PanelInfo, curves: CurveTable) -> dict[str, Curve]:
    keys = {name: (experiment, panel.name, name) for name in panel.optimizers}
    return {name: curves[key] for name, key in keys.items() if key in curves}


def _remarks(
    panel: PanelInfo, curves: Mapping[str, Curve], held_out: Mapping[str, Curve]
) -> list[str]:
    """What a reader must know of a panel: notices on its data, missing and diverged runs."""
    remarks = list(panel.notices())
    missing = [name for name in panel.optimizers if name not in curves]
    if missing:
        remarks.append(f"{panel.title}: {', '.join(missing)} not run.")
    for name, curve in curves.items():
        if curve.diverged:
            remarks.append(
                f"{panel.title}: {name} diverged on {curve.diverged} of "
                f"{curve.n + curve.diverged} runs, which its curve leaves out."
            )
    for name, curve in held_out.items():
        if name in curves and curve.n < curves[name].n:
            remarks.append(
                f"{panel.title}: {name} has held-out losses that are not finite in "
                f"{curves[name].n - curve.n} more runs, which their curve leaves out."
            )
    if _below_axis(curves) or _below_axis(held_out):
        remarks.append(f"{panel.title}: losses of 0 lie below the logarithmic axis.")
    return remarks


def _below_axis(curves: Mapping[str, Curve]) -> bool:
    means = [curve.mean for curve in curves.values() if curve.n]
    return is_logarithmic(means) and any((mean == 0).any() for mean in means)


def _of_letters(experiment: ExperimentInfo) -> list[str]:
    """A note on characters that cannot be shown, if there are any."""
    names = [name for panel in experiment.panels for name in (panel.title, *panel.optimizers)]
    letters = unreadable("".join(names))
    if not letters:
        return []
    log.warning(
        "figures of %s: no installed font has %s, so numbers such as %s stand for them; a font "
        "such as Noto Sans CJK would do",
        *(experiment.name, letters, shown(letters[0])),
    )
    return [f"Characters that no installed font has are shown as numbers, such as {letters[0]}."]


def _mark(notes: Sequence[str], remarks: Sequence[str]) -> str:
    """The footnotes' superscript numbers, each once."""
    digits = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
    numbers = dict.fromkeys(notes.index(remark) + 1 for remark in remarks)
    return " ".join(map(str, numbers)).translate(digits)


def _label(name: str, experiment: ExperimentInfo) -> str:
    """An optimizer's name, and where it is not what its name says."""
    panels = [panel for panel in experiment.panels if name in panel.optimizers]
    untrained = [panel for panel in panels if name in panel.untrained]
    if not untrained:
        return name
    return f"{name} (untrained)" if untrained == panels else f"{name} (in part untrained)"


def _handles(experiment: ExperimentInfo, styles: Mapping[str, CurveStyle]) -> list[Artist]:
    names = dict.fromkeys(name for panel in experiment.panels for name in panel.optimizers)
    handles: list[Artist] = [
        Line2D(
            [],
            [],
            **styles[name].line,
            marker=styles[name].marker,
            markersize=4.5,
            markeredgewidth=0,
            label=_label(name, experiment),
        )
        for name in names
    ]
    grids = [bool(panel.grid) for panel in experiment.panels]
    band = "95 % interval" if any(grids) else "bootstrap band"
    if any(grids) and not all(grids):
        band = "bootstrap band; in grids 95 % interval"
    handles.append(Patch(color=GREY, alpha=1.5 * BAND_ALPHA, linewidth=0, label=band))
    if any(panel.paper for panel in experiment.panels):
        handles.append(Line2D([], [], color=GREY, marker="o", label="the paper's curves", **PAPER))
    return handles
