"""Updates of φ: many instances at once, several runs an update."""

from __future__ import annotations

import pandas as pd

from benchmarks.timing import interleaved
from benchmarks.window import WINDOW, by_autograd, by_suite, learned, using
from l2l.optimizers.learned.lstm import LSTM
from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.inner.objective import Objective


def quadratics(repeats: int, instances: int = 128) -> pd.DataFrame:
    """An update of φ from a window on quadratics, fused and by autograd.

    One instance after the other is measured on one, and scaled.
    """
    optimizer = learned("none")
    every, one = (Objective(Quadratic(), range(n), "train", 0) for n in (instances, 1))

    def autograd(objective: Objective) -> None:
        with using("autograd"):
            by_autograd(objective, optimizer)

    times = interleaved(
        {
            "autograd, one instance after the other": lambda: autograd(one),
            "autograd, all instances at once": lambda: autograd(every),
            "fused, all instances at once": lambda: by_suite(every, optimizer),
        },
        repeats,
    )
    table = pd.DataFrame({"way": times.keys(), "update_ms": [1e3 * x for x in times.values()]})
    table.loc[0, "update_ms"] *= instances
    table.insert(0, "instances", instances)
    table["fused_is_faster_by"] = table.update_ms / table.update_ms.iloc[-1]
    return table


def batches(repeats: int, units: int = 20, batch: int = 4) -> pd.DataFrame:
    """A window on MNIST with several runs side by side, against as many windows of one run."""
    optimizer: LSTM = learned()
    one, several = (Objective(MLP(units=units), range(n), "train", 0) for n in (1, batch))
    times = interleaved(
        {"one": lambda: by_suite(one, optimizer), "several": lambda: by_suite(several, optimizer)},
        repeats,
    )
    apart, together = batch * times["one"], times["several"]
    row = {"batch": batch, "window": WINDOW, "together_ms": 1e3 * together, "apart_ms": 1e3 * apart}
    return pd.DataFrame([{**row, "together_over_apart": together / apart}])
