"""verify: which of a folder's curves the code here would give again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import EXPERIMENT, command, empty_figures, write_experiment

import l2l.suite.commands.verify
from l2l.suite.commands.verify import verify
from l2l.suite.inner.evaluate import evaluate
from l2l.suite.report.results import load_results, store_results


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    text = EXPERIMENT.replace("lr: 0.1}", "lr: 0.1, earlier_runs: 2}")
    text = text.replace("{name: sgd}", "{name: sgd, schedule: cosine}")
    with empty_figures():
        ran = command("run", write_experiment(folder, text), "--results", folder / "out")
    assert ran.exit_code == 0, ran.output
    return folder / "out"


def states(root: Path, steps: int = 4) -> dict[str, str]:
    return {each.optimizer: each.state for each in verify(root, steps=steps)}


def test_what_was_computed_here_begins_as_stored(root: Path) -> None:
    # A part of a scheduled or a continued run is not a shorter run.
    for steps in (4, 10):
        assert states(root, steps) == {"LSTM": "same", "SGD": "same", "ADAM": "same"}


def test_trained_optimizer_is_the_shipped_one_where_its_cell_is_not(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store_results(tmp_path / "out", load_results(root))
    told = command("verify", "--results", tmp_path / "out", "--json")
    assert told.exit_code == 0
    (lstm,) = (each for each in json.loads(told.stdout) if each["optimizer"] == "LSTM")
    assert "neither shipped" in lstm["note"] and lstm["difference"] is None
    (trained,) = root.glob("cells/metatrain*/optimizer.safetensors")
    (tmp_path / "None.safetensors").write_bytes(trained.read_bytes())
    monkeypatch.setattr(l2l.suite.commands.verify, "CHECKPOINTS", tmp_path)
    assert states(tmp_path / "out")["LSTM"] == "same"


def test_nothing_that_can_be_computed_is_no_success(root: Path, tmp_path: Path) -> None:
    results = load_results(root)
    (info,) = results.experiments
    unread = dataclasses.replace(info, settings="title: [")
    store_results(tmp_path, dataclasses.replace(results, experiments=(unread,)))
    told = command("verify", "--results", tmp_path)
    assert told.exit_code == 1
    assert "Not verified, or not as stored" in told.stdout
    assert "3 cannot be computed here" in " ".join(told.stdout.split())


def test_plugin_of_the_run_is_named(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "out")
    path = tmp_path / "out" / "cells" / "request.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "plugins": ["mine.py"]}))
    told = command("verify", "--results", tmp_path / "out")
    assert told.exit_code == 2
    assert "made with the plugin mine.py" in told.stderr


def test_other_numbers_differ(root: Path, tmp_path: Path) -> None:
    results = load_results(root)
    table = results.tables.losses
    wrong = (table["optimizer"] == "SGD") & (table["instance"] == 1) & (table["step"] == 3)
    assert wrong.sum() == 1
    table.loc[wrong, "loss"] *= 1.01
    store_results(tmp_path, results)
    assert states(tmp_path)["SGD"] == "differs" and states(tmp_path)["ADAM"] == "same"
    assert states(tmp_path, steps=2)["SGD"] == "same"
    told = command("verify", "--results", tmp_path, "--steps", 4)
    assert told.exit_code == 1
    assert "by 0.0099 after 3 updates" in " ".join(told.stdout.split())


def test_difference_is_not_lost_where_one_of_two_diverged(root: Path, tmp_path: Path) -> None:
    results = load_results(root)
    table = results.tables.losses
    wrong = (table["optimizer"] == "SGD") & (table["instance"] == 1) & (table["step"] == 2)
    table.loc[wrong, "loss"] = float("inf")
    store_results(tmp_path, results)
    (found,) = (each for each in verify(tmp_path, steps=4) if each.optimizer == "SGD")
    assert found.state == "differs" and "after 2 updates" in found.note
    assert found.as_json()["difference"] is None


def test_threads_are_those_of_a_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def counted(*given: Any) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return evaluate(*given)

    monkeypatch.setattr(l2l.suite.commands.verify, "evaluate", counted)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        verify(root, steps=2)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.usefixtures("undrawn")
def test_merged_runs_are_each_verified_by_their_own_settings(root: Path, tmp_path: Path) -> None:
    text = EXPERIMENT.replace("SGD: {name: sgd}, ADAM: {name: adam, lr: 0.1}", "NAG: {name: nag}")
    text = text[: text.index("claims:")]
    ran = command("run", write_experiment(tmp_path, text), "--results", tmp_path / "other")
    assert ran.exit_code == 0, ran.output
    shutil.copytree(root, tmp_path / "own")
    for _ in range(2):
        assert command("merge", tmp_path / "other", "--results", tmp_path / "own").exit_code == 0
    merged = {"LSTM": "same", "SGD": "same", "ADAM": "same", "NAG": "same"}
    assert states(tmp_path / "own") == merged
    (info,) = load_results(tmp_path / "own").experiments
    assert len(info.every_settings()) == 2


def test_experiment_that_is_not_there_is_named(root: Path) -> None:
    told = command("verify", "fig4", "--results", root)
    assert told.exit_code == 2
    assert "has no experiment 'fig4'" in told.stderr
