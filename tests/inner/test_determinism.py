"""The same cells give the same numbers, however their work is split."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch
from command_line import command, leave_figures_empty, write_experiment
from fake_kinds import fake_kind

from l2l.optimizers.learned.checkpoint import load_optimizer
from l2l.suite.commands.request import Request, plan_request
from l2l.suite.inner.process import DETERMINISTIC, deterministic
from l2l.suite.plan.cells import make_cell
from l2l.suite.run.folder import open_results
from l2l.suite.run.store import run_cell

ON_IMAGES = """
title: Tiny
sizes: {test_instances: 3, tuning_instances: 2}
training:
  t:
    problem: &problem {name: mlp, units: 20}
    optimizer: {name: lstm, preprocessing: none, hidden: 4}
    phases: [{runs: 2, horizon: 4, estimator: {name: truncated, window: 2}, rate: 0.01, batch: 2}]
    validation_instances: 2
panels:
  p:
    title: Images
    problem: *problem
    steps: 2
    optimizers: {LSTM: {trained: t}, SGD: {name: sgd}, ADAM: {name: adam, lr: 0.1}}
  convolutions:
    title: Images
    problem: {name: convnet, dataset: mnist, layers: 2}
    steps: 4
    optimizers: {ADAM: {name: adam, lr: 0.1}}
"""
WEIGHTS = "optimizer.safetensors"
TABLES = ("tuning.csv", "curves.parquet")


def results(experiment: Path, root: Path) -> dict[str, bytes]:
    """What the cells of an experiment leave, each run in this process."""
    open_results(root)
    with deterministic(True):
        for cell in plan_request(Request((str(experiment),), "smoke")).cells:
            assert run_cell(cell, root, "cpu").state == "done"
    # Not their whole files: safetensors writes a header's entries in any order.
    phi = {str(path.relative_to(root)): load_optimizer(path).phi for path in root.rglob(WEIGHTS)}
    tables = [path for name in TABLES for path in root.rglob(name)]
    return {
        **{name: weights.numpy().tobytes() for name, weights in phi.items()},
        **{str(path.relative_to(root)): path.read_bytes() for path in tables},
    }


def test_results_do_not_depend_on_batches_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = write_experiment(tmp_path, ON_IMAGES)
    threads = torch.get_num_threads()
    usual = results(experiment, tmp_path / "usual")
    monkeypatch.setenv("L2L_MEMORY_MIB", "1")
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        split = results(experiment, tmp_path / "split")
    finally:
        torch.set_num_threads(threads)
    assert len(usual) == 6
    assert split == usual


def test_deterministic_algorithms_are_asked_for_and_no_longer_than_wanted() -> None:
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert os.environ[DETERMINISTIC] == "1"
    assert not torch.are_deterministic_algorithms_enabled()
    assert DETERMINISTIC not in os.environ
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_cell_leaves_the_process_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def settings() -> list[object]:
        cudnn = torch.backends.cudnn
        return [
            *(cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision, cudnn.benchmark),
            torch.are_deterministic_algorithms_enabled(),
            *(torch.get_num_threads(), logging.raiseExceptions),
        ]

    seen = []

    def run(job: object) -> None:
        seen.append([torch.backends.cudnn.allow_tf32, *settings()])
        with torch.backends.cudnn.flags(enabled=False, deterministic=True):
            pass  # raises where the older name cannot be read

    fake_kind(monkeypatch, run)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    # With one of the newer names set, PyTorch's older name for both raises.
    monkeypatch.setattr(torch.backends.cudnn.rnn, "fp32_precision", "ieee")
    before = settings()
    open_results(tmp_path)
    with deterministic(True):
        run_cell(make_cell("fake", "a", {}), tmp_path, "cpu")
    assert seen[0][:5] == [False, "ieee", "ieee", False, True]
    assert settings() == before


def test_command_gives_equal_tables_whatever_its_jobs_threads_and_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run's cells are computed in two processes, with half of the threads each."""
    leave_figures_empty(monkeypatch)
    experiment = write_experiment(tmp_path, ON_IMAGES)
    threads, found = torch.get_num_threads(), []
    for jobs, memory in ((1, "4096"), (2, "1")):
        out = tmp_path / str(jobs)
        words = ["run", experiment, "--profile", "smoke", "--deterministic", "--jobs", jobs]
        monkeypatch.setenv("L2L_MEMORY_MIB", memory)
        torch.set_num_threads(2)
        try:
            done = command(*words, "--results", out)
        finally:
            torch.set_num_threads(threads)
        assert done.exit_code == 0, done.output
        names = ("losses.parquet", "scores.parquet", "final.csv")
        found.append({name: (out / name).read_bytes() for name in names})
    assert found[0] == found[1]
