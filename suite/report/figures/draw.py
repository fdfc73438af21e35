"""The figures of a report: one that cannot be drawn costs none of the rest."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from l2l.suite.files.atomic import write_bytes_atomic, write_text_atomic
from l2l.suite.files.places import FIGURES
from l2l.suite.plan.definitions import ExperimentInfo
from l2l.suite.report.curves import CurveTable, curves_by_optimizer
from l2l.suite.report.results import Results

if TYPE_CHECKING:
    from l2l.suite.report.figures.files import Drawing

log = logging.getLogger("suite")


@dataclass(frozen=True)
class Shown:
    """A figure of the report.

    Args:
        name: of its files.
        caption: what it shows.
        svg: its drawing; empty if it could not be drawn.
        failure: why it could not.
    """

    name: str
    caption: str
    svg: str = ""
    failure: str = ""


def draw_figures(
    results: Results, curves: CurveTable, final: pd.DataFrame, folder: Path
) -> list[list[Shown]]:
    """Draw and write each experiment's figures; its own comes first, then those of its panels.

    Raises:
        SuiteError: the folder cannot be written, or the table of held-out losses is damaged.
    """
    held_out = curves_by_optimizer(results.tables.held_out)
    try:
        every = _drawings(results, curves, held_out, final)
    except Exception as error:  # matplotlib cannot be imported in some users' surroundings
        return [
            [_failed(each.name, caption(each, held_out), folder / FIGURES, error)]
            for each in results.experiments
        ]
    return [
        [_drawn(drawing, str(experiment), folder / FIGURES) for drawing in own]
        for experiment, own in zip(results.experiments, every, strict=True)
    ]


def _drawings(
    results: Results, curves: CurveTable, held_out: CurveTable, final: pd.DataFrame
) -> list[list[Drawing]]:
    from l2l.suite.report.figures.experiment import draw_experiment
    from l2l.suite.report.figures.files import Drawing
    from l2l.suite.report.figures.pictures import picture_sheets
    from l2l.suite.report.figures.style import curve_styles
    from l2l.suite.report.figures.traces import draw_traces

    experiments = results.experiments
    styles = curve_styles(o for e in experiments for p in e.panels for o in p.optimizers)
    return [
        [
            Drawing(
                e.name,
                caption(e, held_out),
                partial(draw_experiment, e, curves, held_out, final, styles),
            ),
            *picture_sheets(e, results.pictures),
            *draw_traces(e, results.tables, styles),
        ]
        for e in experiments
    ]


def _drawn(drawing: Drawing, text: str, folder: Path) -> Shown:
    from l2l.suite.report.figures.files import render

    try:
        rendered = render(drawing, text)
    except Exception as error:  # whatever an author's data and the fonts of this machine lead to
        return _failed(drawing.name, drawing.caption, folder, error)
    write_text_atomic(folder / f"{drawing.name}.svg", rendered.svg)
    write_bytes_atomic(folder / f"{drawing.name}.png", rendered.png)
    return Shown(drawing.name, drawing.caption, rendered.svg)


def _failed(name: str, caption: str, folder: Path, error: Exception) -> Shown:
    """What went wrong, and where; the log has it too."""
    # What an earlier report left would be taken for this one's.
    for file in folder.glob(f"{name}.*"):
        file.unlink()
    place = traceback.extract_tb(error.__traceback__)[-1]
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    sentence = f"{reason} ({Path(place.filename).name}, line {place.lineno})"
    log.error("figure %s could not be drawn: %s", name, sentence)
    return Shown(name, caption, failure=sentence)


def caption(experiment: ExperimentInfo, held_out: CurveTable) -> str:
    """What an experiment's figure shows, below also the curves of `held_out` that are its own."""
    source = f" ({experiment.source} of the paper)" if experiment.source else ""
    what, band = "loss", "a bootstrap band, the 2.5th to 97.5th percentile of the mean"
    if all(panel.grid for panel in experiment.panels):
        what, band = "final loss", "its 95 % interval"
    text = f"{experiment.title}{source}. Mean {what} over fresh test runs, with {band}"
    if any(panel.paper for panel in experiment.panels):
        text += "; dotted, with hollow markers, the curves of the paper's own figure"
    text += "."
    ungridded = {panel.name for panel in experiment.panels if not panel.grid}
    if 0 < len(ungridded) < len(experiment.panels):
        text += " Grids show mean final losses, with their 95 % intervals."
    if any(name == experiment.name and panel in ungridded for name, panel, _ in held_out):
        text += (
            " The lower panels show the mean loss on held-out data, after each tenth of the "
            "updates, of the same runs."
        )
    return text
