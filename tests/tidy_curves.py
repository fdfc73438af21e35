"""Small tidy tables for the tests of everything between curves and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from l2l.suite.inner.trace_tables import Traces, no_traces
from l2l.suite.plan.definitions import ClaimInfo, ExperimentInfo, PanelInfo
from l2l.suite.report.condense import condense
from l2l.suite.report.curves import CurveTable, curves_by_optimizer
from l2l.suite.report.result_tables import Tables, join_tables
from l2l.suite.report.runs import runs_of
from l2l.suite.report.scores.losses import Recorded, ScoreTable, scores_by_run

STEPS = 20
INSTANCES = 40


def rows(
    optimizer: str,
    final: float,
    *,
    panel: str = "p",
    instances: int = INSTANCES,
    steps: int = STEPS,
    diverged: Sequence[int] = (),
    learning_rate: float = 0.1,
) -> pd.DataFrame:
    """Curves that fall from 2 to about `final`; instances share their luck, as paired runs do."""
    rng = np.random.default_rng(7)
    luck = np.exp(0.3 * rng.normal(size=(instances, 1)))
    own = np.exp(0.02 * np.random.default_rng(len(optimizer)).normal(size=(instances, steps + 1)))
    loss = 2.0 * (final / 2.0) ** np.linspace(0, 1, steps + 1) * luck * own
    loss[list(diverged), steps // 2 :] = np.inf
    return pd.DataFrame(
        {
            "experiment": "e",
            "panel": panel,
            "problem": "quadratic",
            "optimizer": optimizer,
            "learning_rate": np.nan if optimizer.startswith("LSTM") else learning_rate,
            "instance": np.repeat(np.arange(instances), steps + 1),
            "step": np.tile(np.arange(steps + 1), instances),
            "loss": loss.ravel(),
        }
    )


def experiment(
    optimizers: Sequence[str],
    test: str = "",
    options: Mapping[str, Any] | None = None,
    **panel: Any,
) -> ExperimentInfo:
    """An experiment "e" with a panel "p", and a claim "C-1" if a `test` is named."""
    panel.setdefault("learned", tuple(o for o in optimizers if o.startswith("LSTM")))
    info = PanelInfo(name="p", title="Panel", steps=STEPS, optimizers=tuple(optimizers), **panel)
    claims = (ClaimInfo("C-1", "A claim.", test, options or {}),) if test else ()
    return ExperimentInfo("e", "Experiment", (info,), claims, settings="name: e\n")


def condensed(info: ExperimentInfo, runs: pd.DataFrame, traces: Traces | None = None) -> Tables:
    """What a results folder keeps of `runs`, a table of rows as `rows` makes them."""
    parts = []
    for panel in info.panels:
        own = runs[runs["panel"] == panel.name]
        found = {str(name): runs_of(each, str(name)) for name, each in own.groupby("optimizer")}
        parts.append(condense(info, Recorded(panel, found, traces or no_traces()), "quadratic"))
    return join_tables(parts)


def known(tables: Tables) -> tuple[CurveTable, ScoreTable]:
    """What claims and final losses are computed from."""
    return curves_by_optimizer(tables.curves), scores_by_run(tables.scores)
