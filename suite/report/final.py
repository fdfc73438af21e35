"""final.csv: the loss each optimizer ends with, beside the paper's.

Ours is the mean over the last tenth of the updates, the paper's the last value of its curve.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from l2l.suite.plan.definitions import ExperimentInfo, PanelInfo
from l2l.suite.report.agreement import distance
from l2l.suite.report.curves import CurveTable
from l2l.suite.report.paper import loss_after
from l2l.suite.report.scores.losses import HeldOut, ScoreTable, last_tenth, nothing
from l2l.suite.report.statistics.intervals import mean_loss

COLUMNS = [
    "experiment",
    "panel",
    "optimizer",
    "learning_rate",
    "step",
    "mean",
    "ci_low",
    "ci_high",
    "median",
    "n",
    "diverged",
    "diverged_on",
    "paper",
    "ratio",
    "distance",
]
# Where a problem has held-out data.
HELD_OUT_COLUMNS = ["held_out", "held_out_low", "held_out_high"]


def final_losses(
    experiments: Sequence[ExperimentInfo], curves: CurveTable, scores: ScoreTable
) -> pd.DataFrame:
    """One row an optimizer of each panel, in the experiments' order.

    `step` is the panel's last; an optimizer that was not run so far has no row. `mean` of the final
    losses, with its 95 % interval, and `median` are over the `n` instances that did not diverge;
    `diverged` counts the others, and `diverged_on` has their numbers. `paper` is the figure's mean
    loss after as many updates, NaN where it shows none; `ratio` is mean / paper. `distance` is the
    root mean square of log(ours / figure) over the curve, some .1 where they differ by a tenth.
    If any panel has held-out data, `held_out` is the mean held-out loss of the runs at their end.
    """
    rows = []
    for experiment in experiments:
        for panel in experiment.panels:
            for optimizer in panel.optimizers:
                place = (experiment.name, panel.name, optimizer)
                final = (*place, last_tenth(panel.steps).name)
                if place not in curves or final not in scores:
                    continue
                losses = scores[final]
                mean = mean_loss(losses.to_numpy())
                diverged = losses.index[~np.isfinite(losses)]
                paper = paper_loss(panel, optimizer)
                held_out = scores.get((*place, HeldOut().name), nothing())
                apart = mean_loss(held_out.to_numpy())
                rows.append(
                    {
                        "experiment": experiment.name,
                        "panel": panel.name,
                        "optimizer": optimizer,
                        "learning_rate": curves[place].learning_rate,
                        "step": panel.steps,
                        "mean": mean.estimate,
                        "ci_low": mean.low,
                        "ci_high": mean.high,
                        "median": losses[np.isfinite(losses)].median(),
                        "n": mean.n,
                        "diverged": len(diverged),
                        "diverged_on": " ".join(map(str, diverged)),
                        "paper": paper,
                        "ratio": mean.estimate / paper,
                        "distance": distance(panel, optimizer, curves[place]),
                        "held_out": apart.estimate,
                        "held_out_low": apart.low,
                        "held_out_high": apart.high,
                    }
                )
    table = pd.DataFrame(rows, columns=COLUMNS + HELD_OUT_COLUMNS)
    return table if table["held_out"].notna().any() else table[COLUMNS]


def paper_loss(panel: PanelInfo, optimizer: str) -> float:
    """The paper's mean loss after the panel's last step; NaN where the paper shows none."""
    return loss_after(panel.paper, optimizer, panel.steps) if panel.paper else np.nan
