"""A training that changes nothing for the better is told of wherever its optimizer is shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from command_line import command, leave_figures_empty, write_experiment
from test_metatrain import PHASES, PROBLEM, SHORT, SPEC, training, training_state
from torch import Tensor

from l2l import Problem, Rng, Tensors
from l2l.optimizers.learned.checkpoint import about_optimizer
from l2l.suite.meta.metatrain import UNTRAINED, metatrain, untrained_because
from l2l.suite.meta.state import TrainingState

TOO_FAST = ["--set", "training.t.phases.0.rate=1e3"]


@dataclass(frozen=True)
class Plain(Problem):
    """Everywhere the same."""

    def init(self, rng: Rng) -> Tensors:
        return {"theta": rng.normal(3)}

    def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        return 1 + 0 * params["theta"].sum()


def told(folder: Path) -> object:
    return about_optimizer(folder / "optimizer.safetensors").get(UNTRAINED)


def test_training_that_improves_has_nothing_to_tell(tmp_path: Path) -> None:
    metatrain(PROBLEM, SPEC, training(replace(SHORT, runs=60)), 1, tmp_path)
    assert told(tmp_path) is None


def test_training_without_a_better_validation_says_how_many_there_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metatrain(PROBLEM, SPEC, training(replace(SHORT, rate=1e4)), 1, tmp_path)
    reason = "none of 3 validations was better than the one before training"
    assert told(tmp_path) == reason
    assert f"the optimizer is untrained: {reason}" in caplog.text


def test_training_without_a_usable_window_says_so(tmp_path: Path) -> None:
    metatrain(Plain(), SPEC, training(SHORT), 1, tmp_path)
    assert told(tmp_path) == "none of 12 windows gave a meta-gradient that is finite and not 0"


@pytest.mark.parametrize("until", [6, 26])
def test_windows_are_those_that_were_skipped_where_all_were(tmp_path: Path, until: int) -> None:
    metatrain(Plain(), SPEC, training(*PHASES), 1, tmp_path, until=until)
    state = training_state(tmp_path)
    assert state.skipped
    assert f"none of {state.skipped} windows" in untrained_because(state, training(*PHASES), seed=1)
    # One of them that was not is enough.
    weights = torch.zeros(3)
    used = TrainingState(weights, weights, weights, runs=state.runs, skipped=state.skipped - 1)
    assert "windows" not in untrained_because(used, training(*PHASES), seed=1)


def test_untrained_optimizer_is_told_of_on_terminal_figure_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = ["run", write_experiment(tmp_path), "--results", out, *TOO_FAST]
    done = command(*words)
    assert done.exit_code == 0, done.stderr
    sentence = "LSTM is untrained: none of 4 validations was better than the one before training"
    assert f"notice: tiny quadratics: {sentence}" in done.stderr
    assert sentence in next(out.glob("logs/2*.log")).read_text(encoding="utf-8").replace(
        "seed 1: the optimizer", "LSTM"
    )
    figure = (out / "figures" / "tiny.svg").read_text(encoding="utf-8")
    assert "LSTM (untrained)" in figure
    assert sentence in figure
    table = (out / "tables" / "final.md").read_text(encoding="utf-8")
    assert " (untrained) |" in table
    for file in ("tables/final.md", "tables/claims.md", "tables/intervals.tex", "report.html"):
        assert sentence in (out / file).read_text(encoding="utf-8"), file
    leave_figures_empty(monkeypatch)
    # The training's own cell may be gone.
    assert command("clean", "--kind", "metatrain", "--yes", "--results", out).exit_code == 0
    assert sentence in command(*words).stderr
    assert (out / "tables" / "final.md").read_text(encoding="utf-8") == table
    # Nor are its cells needed to make the report again.
    assert command("clean", "--yes", "--results", out).exit_code == 0
    assert sentence in command("report", "--results", out).stderr


@pytest.mark.usefixtures("undrawn")
def test_chosen_one_of_several_seeds_is_told_of_too(tmp_path: Path) -> None:
    words = ["--results", tmp_path / "out", "--set", "training.t.seeds=[1, 2]"]
    done = command("run", write_experiment(tmp_path), *words, *TOO_FAST)
    assert "LSTM is untrained" in done.stderr
