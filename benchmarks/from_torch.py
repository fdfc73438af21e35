"""Classes of `torch.optim` in the suite, and a loop over them written by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from benchmarks.sweeps import STEPS, PlainMLP, one_run
from benchmarks.timing import wall_and_processor
from l2l.problems.mlp import MLP
from l2l.suite.core.registry import optimizers
from l2l.suite.inner.loop import descend
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.process import one_thread_beside_the_kernel

RATES = 13
RATE = 0.01
# Classes, with hyperparameters besides.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("AdamW", {}),
    ("AdamW", {"fused": True}),
    ("NAdam", {}),
    ("Adafactor", {}),
    ("Adafactor", {"foreach": True}),
]


def from_torch(repeats: int, instances: int = 10, steps: int = STEPS) -> pd.DataFrame:
    """One run of MNIST's network by hand and by the suite, and a sweep of `RATES` rates.

    On one thread, as the suite's cells are, and in the processor's time. The loop by hand is
    measured once, and taken to be as long for all runs of the sweep.
    """
    problem = MLP()
    rates = torch.logspace(-4, -1, RATES).repeat_interleave(instances).unsqueeze(1)
    rows = []
    for cls, given in CASES:
        spec = {"name": "torch", "optimizer": f"torch.optim.{cls}", "lr": RATE, **given}
        optimizer = optimizers.make(spec)

        @torch.no_grad()
        def suite(copies: int, rate: Any, optimizer: Any = optimizer) -> None:
            some = instances if copies > 1 else 1
            objective = Objective(problem, range(some), "validation", 0, copies=copies)
            for _ in descend(objective, optimizer.at_rate(rate), steps):
                pass

        def by_hand(cls: str = cls, given: Any = given) -> None:
            make = getattr(torch.optim, cls)
            one_run(PlainMLP(problem, 0), lambda params: make(params, lr=RATE, **given), steps)

        ways = {
            "by_hand": by_hand,
            "suite": lambda suite=suite: suite(1, RATE),
            "sweep": lambda suite=suite: suite(RATES, rates),
        }
        with one_thread_beside_the_kernel():
            _, times = wall_and_processor(ways, repeats)
        rows.append(
            {
                "optimizer": " ".join([cls, *given]),
                "by_hand_ms": 1000 * times["by_hand"],
                "suite_ms": 1000 * times["suite"],
                "suite_over_by_hand": times["suite"] / times["by_hand"],
                "sweep_s": times["sweep"],
                "sweep_is_faster_by": RATES * instances * times["by_hand"] / times["sweep"],
            }
        )
    return pd.DataFrame(rows)
