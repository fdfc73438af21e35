"""How far a curve is from the paper's: the root mean square of log(ours / figure)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from l2l.suite.plan.definitions import PanelInfo, PaperPanel
from l2l.suite.report.curves import Curve, smoothed
from l2l.suite.report.paper import panel_curves

Floats = npt.NDArray[np.float64]


def log_ratios(losses: Floats, place: PaperPanel, optimizer: str) -> tuple[Floats, Floats]:
    """The updates at which the figure has a value, and log(ours / figure) there, both `smoothed`.

    Args:
        losses: our mean losses after 0, 1, … updates.
        place: which of the paper's panels.
        optimizer: as in the figure's legend.

    Raises:
        SuiteError: the paper has no such figure or panel.
        KeyError: the panel has no such optimizer.
    """
    curve = panel_curves(place)[optimizer]
    updates, shown = (curve[name].to_numpy(dtype=float) for name in ("updates", "loss"))
    last = len(losses) - 1
    theirs = np.interp(np.arange(last + 1), updates, shown)
    updates = updates[(updates >= 1) & (updates <= last)]
    near = updates.round().astype(np.int64)
    return updates, np.log(smoothed(losses)[near] / smoothed(theirs)[near])


def distance(panel: PanelInfo, optimizer: str, curve: Curve) -> float:
    """The root mean square of log(ours / figure) over a mean curve; NaN where there is no figure's.

    Figures of single values, such as Figure 6's final losses, have none.
    """
    if panel.paper is None:
        return float("nan")
    theirs = panel_curves(panel.paper).get(optimizer)
    if theirs is None or len(theirs) == 1:
        return float("nan")
    losses = np.interp(np.arange(curve.steps[-1] + 1), curve.steps, curve.mean)
    return rms(log_ratios(losses, panel.paper, optimizer)[1])


def rms(ratios: Floats) -> float:
    """Root mean square; infinite where a curve diverged, NaN where there is nothing to compare."""
    if not len(ratios):
        return float("nan")
    return float(np.sqrt(np.mean(np.square(ratios)))) if np.isfinite(ratios).all() else float("inf")
