"""A meta-training as it is planned from an experiment's file, for the tests of its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from l2l.suite.plan.plan import make_plan
from l2l.suite.plan.profiles import build, read_experiment

FILE = """
title: Tiny
sizes: {test_instances: 2, tuning_instances: 2}
training:
  t:
    problem: {name: quadratic, dim: 3}
    optimizer: {name: lstm, preprocessing: none, hidden: 4}
    phases: [{runs: 16, horizon: 12, estimator: {name: truncated, window: 3}, rate: 0.01}]
    validate_every: 8
panels:
  p: {title: P, problem: {name: quadratic, dim: 3}, steps: 10, optimizers: {LSTM: {trained: t}}}
"""


def planned(folder: Path, *settings: str) -> Any:
    path = folder / "tiny.yaml"
    path.write_text(FILE)
    written = [f"training.t.{setting}" for setting in settings]
    cells = make_plan(build([read_experiment(path)], "quick", written)).cells
    (found,) = (cell for cell in cells if cell.kind == "metatrain")
    return found
