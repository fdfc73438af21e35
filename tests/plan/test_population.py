"""Populations: what is drawn, who goes on, and that the winner is a training like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from l2l.optimizers.learned.checkpoint import load_optimizer
from l2l.suite.commands.status import work_of
from l2l.suite.core.errors import SuiteError
from l2l.suite.files.places import CANDIDATE, TRAINING_LOG
from l2l.suite.meta.schedule import Population, Training
from l2l.suite.meta.state import load_state
from l2l.suite.plan.cells import Cell, in_order
from l2l.suite.plan.config import Experiment
from l2l.suite.plan.plan import Plan, make_plan
from l2l.suite.plan.population import Rung, at_rate, candidates, rungs
from l2l.suite.plan.profiles import build, read_experiment
from l2l.suite.run.folder import open_results
from l2l.suite.run.kinds.metatrain import Metatrain
from l2l.suite.run.store import run_cell

FILE = """
title: Tiny
sizes: {test_instances: 4, tuning_instances: 2}
training:
  t:
    problem: {name: quadratic, dim: 3}
    optimizer: {name: lstm, preprocessing: none, hidden: 4}
    phases:
      - {runs: 16, horizon: 10, estimator: {name: truncated, window: 5},
         rate: 0.01, rate_end: 0.002, batch: 2, clip: true}
      - {runs: 16, horizon: 10, estimator: {name: truncated, window: 5}, rate: 0.005, batch: 2}
    seeds: [1, 2]
    validate_every: 4
    validation_instances: 6
    population: {rates: [0.001, 0.1], candidates: 4, first_runs: 7, keep: 0.5}
panels:
  p:
    title: Panel
    problem: {name: quadratic, dim: 3}
    steps: 10
    optimizers: {LSTM: {trained: t}}
"""


def experiment(tmp_path: Path, *settings: str) -> Experiment:
    path = tmp_path / "tiny.yaml"
    path.write_text(FILE)
    return build([read_experiment(path)], "quick", list(settings))[0]


def plan(tmp_path: Path, *settings: str) -> Plan:
    return make_plan([experiment(tmp_path, *settings)])


def training(tmp_path: Path, *settings: str) -> tuple[Training, Population]:
    found = experiment(tmp_path, *settings).training["t"]
    assert found.population is not None
    return found, found.population


def run_all(cells: tuple[Cell, ...], root: Path) -> None:
    open_results(root)
    for cell in in_order(cells):
        outcome = run_cell(cell, root, "cpu")
        assert outcome.state == "done", outcome.error


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A plan and its results; tests only read them."""
    folder = tmp_path_factory.mktemp("population")
    made = plan(folder)
    run_all(made.cells, folder)
    return made, folder


def of_kind(found: Plan, kind: str) -> list[Cell]:
    return [cell for cell in found.cells if cell.kind == kind]


def test_rates_are_log_uniform_and_seeds_take_turns(tmp_path: Path) -> None:
    drawn = candidates(*training(tmp_path, "training.t.population.candidates=1000"))
    rates = pd.Series([each.rate for each in drawn])
    assert rates.between(0.001, 0.1).all()
    assert 440 < (rates < 0.01).sum() < 560, "as many in each decade"
    assert [each.seed for each in drawn[:4]] == [1, 2, 1, 2]


def test_candidates_that_are_drawn_alike_are_one_cell(tmp_path: Path) -> None:
    rates = "{rates: [0.01, 0.010001], candidates: 6, first_runs: null}"
    made = plan(tmp_path, f"training.t.population={rates}")
    (select,) = of_kind(made, "select")
    assert len(select.inputs) == 6
    assert len({cell.key for cell in select.inputs}) < 6
    assert {cell.label for cell in select.inputs} <= {cell.label for cell in made.cells}


def test_more_candidates_leave_the_first_ones_as_they_were(tmp_path: Path) -> None:
    few = candidates(*training(tmp_path))
    assert candidates(*training(tmp_path, "training.t.population.candidates=9"))[:4] == few
    assert candidates(*training(tmp_path, "training.t.population.seed=1")) != few


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("{candidates: 16, first_runs: 2, keep: 0.25}", [(16, 2), (4, 8), (1, 32)]),
        ("{candidates: 4, first_runs: 20, keep: 0.5}", [(4, 20), (2, 32)]),
        ("{candidates: 5, first_runs: 32}", [(5, 32)]),
        ("{candidates: 5, first_runs: 99}", [(5, 32)]),
        ("{candidates: 3, first_runs: 10, keep: 0.9}", [(3, 10), (3, 12), (3, 14), (3, 16)]),
        ("{candidates: 5, first_runs: null}", [(5, 32)]),
    ],
)
def test_rungs_narrow_to_the_whole_schedule(
    tmp_path: Path, setting: str, expected: list[tuple[int, int]]
) -> None:
    found = rungs(*training(tmp_path, f"training.t.population={setting}"))
    assert found[: len(expected)] == tuple(Rung(*each) for each in expected)
    assert found[-1].runs == 32


def test_rates_of_later_phases_keep_their_ratio(tmp_path: Path) -> None:
    first, second = at_rate(training(tmp_path)[0].schedule, 0.02).phases
    assert (first.rate, first.rate_end, second.rate) == (0.02, 0.004, 0.01)
    assert second.rate_end is None


def test_plan_is_a_ladder_and_its_work_is_counted(tmp_path: Path) -> None:
    found = plan(tmp_path)
    assert [cell.kind for cell in found.cells] == (
        ["metatrain"] * 4 + ["promote"] + ["metatrain"] * 2 + ["promote", "metatrain", "evaluate"]
    )
    work = [work_of(cell.kind, cell.config) for cell in of_kind(found, "metatrain")]
    assert work == [70.0] * 4 + [70.0] * 2 + [180.0]


def test_documented_example_is_sixteen_four_one() -> None:
    path = Path(__file__).parents[2] / "docs" / "examples" / "population.yaml"
    (made,) = build([read_experiment(path)], "paper", [])
    searched = made.training["searched"]
    assert searched.population is not None
    assert rungs(searched, searched.population) == (Rung(16, 160), Rung(4, 640), Rung(1, 3200))


def test_the_best_go_on_by_rank(finished: tuple[Plan, Path]) -> None:
    made, root = finished
    first, second = of_kind(made, "promote")
    table = pd.read_csv(first.folder(root) / "selection.csv")
    assert set(table.rate) == {each.rate for each in candidates(*training(root))}
    best = table.sort_values("validation").head(2)
    assert sorted(table[table.chosen].rate) == sorted(best.rate)
    assert [told(cell, root)["rate"] for cell in second.inputs] == list(best.rate)


def told(cell: Cell, root: Path) -> dict[str, float]:
    content: dict[str, float] = json.loads((cell.folder(root) / CANDIDATE).read_text())
    return content


def test_winner_is_the_training_with_its_rate_and_seed_bit_for_bit(
    finished: tuple[Plan, Path], tmp_path: Path
) -> None:
    """Three cells in a row leave what one that was never stopped leaves."""
    made, root = finished
    winner = of_kind(made, "metatrain")[-1]
    rate, seed = told(winner, root)["rate"], told(winner, root)["seed"]
    phases = at_rate(training(tmp_path)[0].schedule, rate).phases
    alone = plan(
        tmp_path,
        "training.t.population=null",
        f"training.t.seeds=[{seed}]",
        f"training.t.phases.0={{rate: {rate!r}, rate_end: {phases[0].rate_end!r}}}",
        f"training.t.phases.1.rate={phases[1].rate!r}",
    )
    run_all(alone.cells, tmp_path)
    (single,) = of_kind(alone, "metatrain")
    texts = [
        (cell.folder(folder) / "log.csv").read_text()
        for cell, folder in ((winner, root), (single, tmp_path))
    ]
    assert texts[0] == texts[1]
    weights = [
        load_optimizer(cell.folder(folder) / "optimizer.safetensors").weights
        for cell, folder in ((winner, root), (single, tmp_path))
    ]
    assert weights[0].equal(weights[1])


def test_rung_ends_with_the_first_validation_after_its_runs(finished: tuple[Plan, Path]) -> None:
    made, root = finished
    runs = []
    for cell in of_kind(made, "metatrain"):
        state = load_state(cell.folder(root))
        assert state is not None
        runs.append(state.runs)
    assert runs == [8] * 4 + [16] * 2 + [32]


def test_runs_of_a_rung_are_its_own(finished: tuple[Plan, Path]) -> None:
    made, root = finished
    done = [Metatrain().done(cell.config, cell.folder(root)) for cell in of_kind(made, "metatrain")]
    assert done == [{"runs": 8}] * 4 + [{"runs": 8}] * 2 + [{"runs": 16}]


def test_rung_after_the_last_phase_has_no_runs(tmp_path: Path) -> None:
    """A phase may end before its runs do; the rungs after it train nothing more."""
    (tmp_path / TRAINING_LOG).write_text("runs,validation\n0,2.0\n4,1.0\n6,1.5\n")
    assert Metatrain().done({"since": 4}, tmp_path) == {"runs": 2}
    assert Metatrain().done({"since": 8}, tmp_path) == {"runs": 0}


def test_promoted_candidate_needs_the_rung_before_no_more(
    finished: tuple[Plan, Path], tmp_path: Path
) -> None:
    """What a `promote` cell leaves is all that the next rung reads."""
    made, root = finished
    promote = of_kind(made, "promote")[0]
    rung = next(cell for cell in of_kind(made, "metatrain") if promote in cell.inputs)
    open_results(tmp_path)
    shutil.copytree(promote.folder(root), promote.folder(tmp_path))
    assert run_cell(rung, tmp_path, "cpu").state == "done"
    assert told(rung, tmp_path) == told(rung, root)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("{rates: [0.1, 0.01]}", "must be two numbers above 0, the lower first"),
        ("{rates: [0, 0.01]}", "must be two numbers above 0, the lower first"),
        ("{rates: [0.1]}", "must be a list of 2"),
        ("{keep: 1.0}", "population.keep is 1.0, but must be a number, above 0, below 1"),
        ("{candidates: 1}", "population.candidates is 1, but must be a whole number, at least 2"),
        ("{frist_runs: 10}", "has no 'frist_runs': did you mean 'first_runs'"),
    ],
)
def test_wrong_populations_are_refused(tmp_path: Path, setting: str, expected: str) -> None:
    with pytest.raises(SuiteError) as caught:
        plan(tmp_path, f"training.t.population={setting}")
    assert expected in str(caught.value)
