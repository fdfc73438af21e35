"""Small benchmarks with known answers, for the tests of scores and of their page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from l2l.suite.plan.definitions import ExperimentInfo, PanelInfo
from l2l.suite.report.condense import condense
from l2l.suite.report.result_tables import join_tables
from l2l.suite.report.results import SOURCE_COLUMNS, Results
from l2l.suite.report.runs import Runs
from l2l.suite.report.scores.losses import Recorded

STEPS = 200
TIMES = 5
INSTANCES = 12
SETUP = {"problem": "quadratic", "updates": STEPS, "tuning instances": 4}


def runs(speed: float, steps: int = STEPS, instances: int = INSTANCES, seed: int = 0) -> Runs:
    """Losses 1 / (1 + speed · t / 50) of instances whose scales differ; speed 1 is ADAM's."""
    scales = np.exp(0.2 * np.random.default_rng(seed).normal(size=(instances, 1)))
    steps_done = np.arange(steps + 1)
    loss = scales / (1 + speed * steps_done / 50)
    return Runs(np.arange(instances), steps_done, loss, 0.1)


def _tenths(each: Runs) -> Runs:
    """Twice the losses, after each tenth of the updates."""
    return replace(each, steps=each.steps[:: STEPS // 10], loss=2 * each.loss[:, :: STEPS // 10])


def results(
    panels: Mapping[str, Mapping[str, float]],
    name: str = "bench",
    in_distribution: Mapping[str, tuple[str, ...]] | None = None,
    long: bool = True,
    seconds: Mapping[str, float] | None = None,
    held_out: Collection[str] = (),
    **panel: Any,
) -> Results:
    """Results of a benchmark: speeds by panel and optimizer; LSTMs are learned, others tuned.

    In the panels of `held_out`, held-out losses are twice the losses.
    """
    infos, tables, sources = [], [], []
    for place, (title, speeds) in enumerate(panels.items()):
        info = PanelInfo(
            title,
            title.title(),
            STEPS,
            tuple(speeds),
            learned=tuple(each for each in speeds if each.startswith("LSTM")),
            in_distribution=(in_distribution or {}).get(title, ()),
            long={"ADAM": TIMES * STEPS} if long and "ADAM" in speeds else {},
            **{"setup": SETUP, **panel},
        )
        infos.append(info)
        found = {label: runs(speed, seed=place) for label, speed in speeds.items()}
        if info.long:
            found["ADAM, long"] = runs(speeds["ADAM"], TIMES * STEPS, seed=place)
        experiment = ExperimentInfo(name, "Benchmark", (info,), benchmark=True)
        apart = {label: _tenths(found[label]) for label in speeds if title in held_out}
        recorded = Recorded(info, found, held_out=apart)
        tables.append(condense(experiment, recorded, "quadratic"))
        for label in speeds:
            owner = {"experiment": name, "panel": title, "optimizer": label}
            took = (seconds or {}).get(label, 1.0)
            cell = {"cell": f"evaluate-{name}-{title}-{label}", "kind": "evaluate"}
            work = {"seconds": took, "runs": INSTANCES, "updates": STEPS, "state_bytes": 8.0}
            sources.append({**owner, **cell, **work, "commit": "abc", "machine": "a machine"})
            if label in info.learned:
                sources.append({**owner, "cell": "lstm", "kind": "shipped", "runs": 1600})
            else:
                tuning = {"runs": 52, "rates": 13, "seconds": 2.0, "with_four_rates": 1 + place}
                tuning["with_default_rate"] = 2 + place
                sources.append({**owner, "cell": f"tune-{label}", "kind": "tune", **tuning})
    experiment = ExperimentInfo(name, "Benchmark", tuple(infos), benchmark=True, settings="x: 1\n")
    return Results(
        (experiment,),
        join_tables(tables),
        {"commit": "abc", "seeds": {name: 0}},
        sources=pd.DataFrame(sources, columns=list(SOURCE_COLUMNS)),
    )
