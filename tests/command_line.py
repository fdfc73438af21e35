"""The command line in this process, and a small experiment to run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import l2l.suite.report.figures.files
from l2l.suite.commands.command_line import app, main
from l2l.suite.report.figures.files import Drawing, Rendered

ROOT = Path(__file__).parents[1]


EXPERIMENT = """
title: Tiny
sizes: {test_instances: 4, tuning_instances: 2}
training:
  t:
    problem: {name: quadratic, dim: 3}
    optimizer: {name: lstm, preprocessing: none, hidden: 4}
    phases: [{runs: 8, horizon: 10, estimator: {name: truncated, window: 5}, rate: 0.01, batch: 2}]
    validate_every: 2
    validation_instances: 4
panels:
  quadratics:
    title: Quadratics
    problem: {name: quadratic, dim: 3}
    steps: 10
    optimizers: {LSTM: {trained: t}, SGD: {name: sgd}, ADAM: {name: adam, lr: 0.1}}
claims:
  T-1: {text: "SGD ends below all", test: ends_below_all, panel: quadratics, optimizer: SGD}
"""


def command(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def as_program(*words: object) -> None:
    """The command line as `reproduce.py` is called, in a process that is there for it alone."""
    os.chdir(ROOT)
    sys.argv = ["reproduce.py", *map(str, words)]
    main()


def leave_figures_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(drawing: Drawing, text: str = "") -> Rendered:
        return Rendered("<svg/>", b"")

    monkeypatch.setattr(l2l.suite.report.figures.files, "render", empty)


@contextmanager
def empty_figures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        leave_figures_empty(patch)
        yield


def write_experiment(folder: Path, text: str = EXPERIMENT) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path
