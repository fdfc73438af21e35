"""The same command gives the same tables, however its work is split."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from test_cli import EXPERIMENT, command, write_experiment

from suite.process import DETERMINISTIC, deterministic

ON_IMAGES = EXPERIMENT.replace("quadratic, dim: 3", "mlp, units: 20").replace(
    "steps: 10", "steps: 3"
)


def tables(folder: Path, *words: str) -> list[bytes]:
    done = command("run", folder / "tiny.yaml", "--results", folder / "out", *words)
    assert done.exit_code == 0, done.output
    found = [(folder / "out" / name).read_bytes() for name in ("curves.parquet", "final.csv")]
    for path in (folder / "out").rglob("cell.json"):
        path.unlink()
    return found


def test_tables_do_not_depend_on_batches_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_experiment(tmp_path, ON_IMAGES)
    threads = torch.get_num_threads()
    usual = tables(tmp_path, "--deterministic")
    monkeypatch.setenv("L2L_MEMORY_MIB", "1")
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert tables(tmp_path, "--deterministic") == usual
    finally:
        torch.set_num_threads(threads)


def test_deterministic_algorithms_are_asked_for_and_no_longer_than_wanted() -> None:
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert os.environ[DETERMINISTIC] == "1"
    assert not torch.are_deterministic_algorithms_enabled()
    assert DETERMINISTIC not in os.environ
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
