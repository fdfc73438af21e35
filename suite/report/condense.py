"""From all that was recorded of a panel to what its results folder keeps at hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from l2l.suite.inner.evaluate import final_steps
from l2l.suite.plan.definitions import ExperimentInfo, long_label
from l2l.suite.report.claims.verdicts import scores_of
from l2l.suite.report.curves import curve_of
from l2l.suite.report.result_tables import Tables
from l2l.suite.report.runs import Runs
from l2l.suite.report.scores.losses import Recorded
from l2l.suite.report.statistics.intervals import Floats

INSTANCES = 128
STEPS = 60
PER_DOUBLING = 12
BAND = ("mean", "low", "high")
# As many coordinates of one instance as the figures show.
COORDINATES = 3


def condense(experiment: ExperimentInfo, recorded: Recorded, problem: str) -> Tables:
    """The tables of one panel, its optimizers in the panel's order.

    Args:
        experiment: that the panel is of, with its claims.
        recorded: what the panel's cells recorded.
        problem: the registered name of the panel's problem.

    Raises:
        SuiteError: the experiment has a claim whose test or options there are not.
    """
    panel = recorded.panel
    scores = scores_of(experiment, panel)
    curves, losses, held_out, scored = [], [], [], []
    for optimizer in panel.optimizers:
        owner = {"experiment": experiment.name, "panel": panel.name, "optimizer": optimizer}
        runs = recorded.runs.get(optimizer)
        if runs is not None:
            curves.append(_curve(runs).assign(problem=problem, **owner))
            losses.append(thin(runs).assign(**owner))
        if optimizer in recorded.held_out:
            held_out.append(_curve(recorded.held_out[optimizer]).assign(**owner))
        for score in scores:
            values = score.of(recorded, optimizer)
            table = pd.DataFrame({"instance": values.index, "value": values.to_numpy()})
            scored.append(table.assign(score=score.name, **owner))
    owner = {"experiment": experiment.name, "panel": panel.name}
    scoring = (*panel.optimizers, *map(long_label, panel.long)) if experiment.benchmark else ()
    ended = [
        anytime(recorded.runs[name]).assign(optimizer=name, **owner)
        for name in scoring
        if name in recorded.runs
    ]
    traces, responses = (
        [shown(table).assign(**owner)]
        for table in (recorded.traces.traces, recorded.traces.responses)
    )
    parts = (curves, losses, held_out, scored, ended, traces, responses)
    return Tables(*map(_together, parts))


def _curve(runs: Runs) -> pd.DataFrame:
    """The mean curve of `runs`, a row a step."""
    table = pd.DataFrame(vars(curve_of(runs))).rename(columns={"steps": "step"})
    return table.assign(**{name: rounded(table[name].to_numpy()) for name in BAND})


def anytime(runs: Runs) -> pd.DataFrame:
    """What the final loss of each run were, had it ended at a step, by instance, step."""
    steps = anytime_steps(int(runs.steps.max()))
    ends = [final_steps(int(step)) if step else range(1) for step in steps]
    loss = np.stack([runs.between(end.start, end[-1]).mean(axis=1) for end in ends], axis=1)
    return _tidy(runs.instances, steps, rounded(loss))


def anytime_steps(last: int) -> NDArray[np.int64]:
    """0, `last`, and what steps lie before it in a series of `PER_DOUBLING` a doubling."""
    back = np.arange(int(np.log2(last) * PER_DOUBLING) + 1)
    spaced = (last / 2 ** (back / PER_DOUBLING)).round().astype(np.int64)
    return np.unique([0, *spaced])


def _tidy(
    instances: NDArray[np.int64], steps: NDArray[np.int64], loss: NDArray[np.float32]
) -> pd.DataFrame:
    """`loss` [n, T] by instance, step."""
    return pd.DataFrame(
        {
            "instance": np.repeat(instances, len(steps)),
            "step": np.tile(steps, len(instances)),
            "loss": loss.ravel(),
        }
    )


def thin(runs: Runs) -> pd.DataFrame:
    """The losses of the first `INSTANCES` runs at `kept_steps`, by instance, step.

    Scores and curves are of all runs; thousands of them would be most of what a folder keeps.
    """
    kept = np.isin(runs.steps, kept_steps(int(runs.steps.max())))
    first = runs.instances < INSTANCES
    return _tidy(runs.instances[first], runs.steps[kept], rounded(runs.loss[first][:, kept]))


def kept_steps(last: int) -> NDArray[np.int64]:
    """Steps from 0 to `last`: all if they are few, or else the first ones and sparser later ones.

    They are 0 and `STEPS` logarithmically spaced from 1 to the last, rounded, each once.
    """
    if last < STEPS:
        return np.arange(last + 1)
    spaced = np.geomspace(1, last, STEPS).round().astype(np.int64)
    return np.unique(np.concatenate([[0], spaced]))


def rounded(losses: Floats) -> NDArray[np.float32]:
    """Losses in single precision, rounded to 16 significant bits, which are almost five digits.

    What is after these is noise to a reader, and would be two thirds of the file.
    """
    bits = losses.astype(np.float32).view(np.uint32)
    half, last = np.uint32(0x80), np.uint32(0xFFFFFF00)
    return ((bits + half) & last).view(np.float32)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The first instance's first coordinates of traces or responses, which figures show."""
    own = table[table["instance"] == table["instance"].iloc[0]] if len(table) else table
    return own[own["coordinate"].isin(own["coordinate"].unique()[:COORDINATES])]


def _together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
