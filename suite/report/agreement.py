"""How far a curve is from the paper's: the root mean square of log(ours / figure)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from l2l.suite.plan.definitions import PanelInfo, PaperPanel
from l2l.suite.report.curves import Curve
from l2l.suite.report.paper import panel_curves

Floats = npt.NDArray[np.float64]
# Both curves are averaged over this share of the updates on either side, because one update's loss
# is that of one minibatch. Early curves, which are steep, are hardly touched.
WIDTH = 0.05


def log_ratios(losses: Floats, place: PaperPanel, optimizer: str) -> tuple[Floats, Floats]:
    """The updates at which the figure has a value, and log(ours / figure) there.

    Args:
        losses: our mean losses after 0, 1, … updates.
        place: which of the paper's panels.
        optimizer: as in the figure's legend.

    Raises:
        SuiteError: the paper has no such figure or panel.
        KeyError: the panel has no such optimizer.
    """
    curve = panel_curves(place)[optimizer]
    updates = curve["updates"].to_numpy(dtype=float)
    theirs = curve["loss"].to_numpy(dtype=float)
    updates = updates[(updates >= 1) & (updates <= len(losses) - 1)]
    steps = np.arange(len(losses))
    all_theirs = np.interp(steps, curve["updates"].to_numpy(dtype=float), theirs)
    ratios = [
        np.log(losses[low:high].mean() / all_theirs[low:high].mean())
        for low, high in (_window(update, len(losses)) for update in updates)
    ]
    return updates, np.array(ratios)


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


def _window(update: float, length: int) -> tuple[int, int]:
    half = round(WIDTH * update)
    middle = round(update)
    half = min(half, length - 1 - middle)
    return middle - half, middle + half + 1
