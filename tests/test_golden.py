"""One results version computes one set of numbers: small cells of each kind, and what they gave.

Another machine rounds differently, so numbers are compared with a tolerance. After RESULTS_VERSION
was raised, `L2L_GOLDEN=write python -m pytest tests/test_golden.py` writes them anew.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from l2l.suite.core.registry import kinds
from l2l.suite.plan.cells import RESULTS_VERSION, Cell
from l2l.suite.plan.plan import make_plan
from l2l.suite.plan.profiles import build, read_experiment
from l2l.suite.run.folder import open_results
from l2l.suite.run.store import run_cell

GOLDEN = Path(__file__).parent / "golden.json"
WRITE = "L2L_GOLDEN"
TOLERANCE = 1e-4

# Short, and with everything in it that changes what is computed; but for SOAP, whose first updates
# are in eigenvectors of matrices of low rank, which rounding chooses.
FILE = """
title: Golden
seed: 3
sizes: {test_instances: 3, tuning_instances: 2}
training:
  seeds: &training
    problem: {name: quadratic, dim: 5}
    optimizer: &lstm {name: lstm, preprocessing: log, hidden: 4, output_scale: 0.1}
    phases:
      - {runs: 5, horizon: 6, estimator: {name: truncated, window: 3},
         rate: 0.03, batch: 2, odd: true, clip: true}
      - {runs: 4, horizon: 7, estimator: {name: truncated, window: 3, sample: 3},
         rate: 0.02, rate_end: 0.001, batch: 2}
      - {runs: 2, horizon: 6, estimator: {name: truncated, window: 3, discount: 0.9},
         rate: 0.01, objective: log_loss}
      - {runs: 2, horizon: 6, estimator: {name: second_order, window: 3}, rate: 0.01, patience: 1}
    seeds: [1, 2]
    validate_every: 3
    validation_instances: 3
  population:
    <<: *training
    criterion: mean
    population: {rates: [0.003, 0.1], candidates: 4, first_runs: 4, keep: 0.5}
panels:
  quadratics:
    title: Quadratics
    problem: {name: quadratic, dim: 5}
    steps: 12
    optimizers:
      LSTM: {trained: seeds}
      Population: {trained: population}
      SGD: {name: sgd}
      NAG: {name: nag}
      Diverging: {name: sgd, lr: 1.0e+9}
    trace: {along: LSTM, coordinates: 4, probed: 2, response_steps: 3, points: 21, lags: 3}
  digits:
    title: Digits
    problem: {name: mlp, units: 3, batch_size: 8}
    steps: 8
    tuning_steps: 5
    optimizers: {LSTM: {trained: seeds}, ADAM: {name: adam}}
"""

Numbers = dict[str, dict[str, list[float]]]


def cells(folder: Path) -> tuple[Cell, ...]:
    path = folder / "golden.yaml"
    path.write_text(FILE)
    return make_plan(build([read_experiment(path)], "quick", [])).cells


def numbers_of(folder: Path) -> dict[str, list[float]]:
    """Of each column of a cell's tables and of its weights: how many are finite, mean and more."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            columns = {name: each.flatten().numpy() for name, each in load_file(path).items()}
        elif path.suffix in (".csv", ".parquet"):
            read = pd.read_csv if path.suffix == ".csv" else pd.read_parquet
            table = read(path).select_dtypes(["number", "bool"])
            columns = {str(name): table[name].to_numpy(np.float64) for name in table}
        else:
            continue
        for name, values in columns.items():
            finite = values[np.isfinite(values)].astype(np.float64)
            few = [finite.mean(), finite.std(), finite[-1]] if len(finite) else []
            found[f"{path.name}: {name}"] = [float(len(finite)), *map(float, few)]
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    root = tmp_path_factory.mktemp("golden")
    open_results(root)
    numbers: Numbers = {}
    for place, cell in enumerate(cells(root)):
        assert run_cell(cell, root, "cpu").error == ""
        numbers[f"{place} {cell.kind} {cell.name}"] = numbers_of(cell.folder(root))
    assert {name.split()[1] for name in numbers} == set(kinds)
    return numbers


def differences(found: Numbers, golden: Numbers) -> list[str]:
    assert list(found) == list(golden), "other cells are planned"
    return [
        f"{cell}, {column}: {found[cell].get(column)}, not {golden[cell].get(column)}"
        for cell in golden
        for column in golden[cell] | found[cell]
        if found[cell].get(column)
        != pytest.approx(golden[cell].get(column), rel=TOLERANCE, abs=1e-6)
    ]


def test_cells_of_each_kind_give_the_numbers_of_their_results_version(found: Numbers) -> None:
    stored = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {"results_version": None}
    if os.environ.get(WRITE) and stored["results_version"] != RESULTS_VERSION:
        rounded = {
            cell: {name: [float(f"{x:.6g}") for x in each] for name, each in columns.items()}
            for cell, columns in found.items()
        }
        stored = {"results_version": RESULTS_VERSION, "cells": rounded}
        # A column's numbers on one line.
        text = re.sub(r"\[[^]]*\]", lambda m: " ".join(m[0].split()), json.dumps(stored, indent=1))
        GOLDEN.write_text(text + "\n")
    assert stored["results_version"] == RESULTS_VERSION, (
        f"{GOLDEN.name} has the numbers of results version {stored['results_version']}: write "
        f"those of version {RESULTS_VERSION} with {WRITE}=write, and look at what changed"
    )
    different = differences(found, stored["cells"])
    assert not different, (
        f"results version {RESULTS_VERSION} gave other numbers before. Find the fault, or, if the "
        "harness is meant to compute others now, raise RESULTS_VERSION in suite/plan/cells.py "
        f"and write them with {WRITE}=write:\n" + "\n".join(different)
    )
