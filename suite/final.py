"""final.csv: the loss each optimizer ends with, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from suite.curves import CurveTable
from suite.definitions import ExperimentInfo, PanelInfo
from suite.paper import loss_after
from suite.scores import FINAL, ScoreTable
from suite.statistics import mean_interval

COLUMNS = [
    "experiment",
    "panel",
    "optimizer",
    "learning_rate",
    "step",
    "mean",
    "ci_low",
    "ci_high",
    "n",
    "diverged",
    "paper",
    "ratio",
]


def final_losses(
    experiments: Sequence[ExperimentInfo], curves: CurveTable, scores: ScoreTable
) -> pd.DataFrame:
    """One row an optimizer of each panel, in the experiments' order.

    `step` is the panel's last; an optimizer that was not run so far has no row. `mean` and its
    95 % bootstrap interval are over the `n` instances that did not diverge, `diverged` counts the
    others. `paper` is the figure's mean loss after as many updates, NaN where it shows none;
    `ratio` is mean / paper.
    """
    rows = []
    for experiment in experiments:
        for panel in experiment.panels:
            for optimizer in panel.optimizers:
                place = (experiment.name, panel.name, optimizer)
                if place not in curves or (*place, FINAL.name) not in scores:
                    continue
                losses = scores[*place, FINAL.name].to_numpy()
                mean = mean_interval(losses)
                paper = paper_loss(panel, optimizer)
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
                        "n": mean.n,
                        "diverged": len(losses) - mean.n,
                        "paper": paper,
                        "ratio": mean.estimate / paper,
                    }
                )
    return pd.DataFrame(rows, columns=COLUMNS)


def paper_loss(panel: PanelInfo, optimizer: str) -> float:
    """The paper's mean loss after the panel's last step; NaN where the paper shows none."""
    if panel.paper is None:
        return float("nan")
    loss = loss_after(panel.paper.figure, panel.paper.panel, optimizer, panel.steps)
    return float("nan") if loss is None else loss
