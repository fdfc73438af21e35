"""Results of two folders become one only where they are the same comparison."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd
import pytest
from benchmark_runs import SETUP, results

from l2l.suite.core.errors import SuiteError
from l2l.suite.report.agreeing import united
from l2l.suite.report.results import Results
from l2l.suite.report.scores.entries import contests

OWN = {"ADAM": 1.0, "Muon": 2.0}
OTHER = {"ADAM": 1.0, "Mine": 1.5}


def owners(table: pd.DataFrame) -> set[str]:
    return set(table["optimizer"])


def test_optimizers_of_both_are_kept_and_what_both_ran_is_the_others() -> None:
    own, other = results({"one": OWN, "two": OWN}), results({"one": {"Muon": 4.0, "LSTM": 0.5}})
    found = united(own, other)
    (experiment,) = found.experiments
    assert [panel.name for panel in experiment.panels] == ["one", "two"]
    assert experiment.panels[0].optimizers == ("ADAM", "Muon", "LSTM")
    assert experiment.panels[0].learned == ("LSTM",)
    assert experiment.panels[0].long == {"ADAM": 1000}
    assert experiment.panels[1].optimizers == ("ADAM", "Muon")
    first, second = contests(found)
    assert list(first.entries) == ["ADAM", "Muon", "LSTM"]
    assert len(first.adam) == 2
    theirs = contests(other)[0].entries["Muon"].course.loss
    assert (first.entries["Muon"].course.loss == theirs).all()
    assert (second.entries["Muon"].course.loss != theirs).any()
    for table in found.tables.by_name().values():
        assert not table.duplicated().any()
    assert not found.sources.duplicated(["panel", "optimizer", "kind"]).any()
    assert found.provenance["earlier"]


def test_what_the_other_folder_has_all_of_is_its_own() -> None:
    own, other = results({"one": {"ADAM": 1.0}}), results({"one": OTHER})
    found = united(own, other)
    assert "earlier" not in found.provenance
    assert len(found.tables.anytime) == len(other.tables.anytime)


def test_what_the_other_folder_only_planned_stays_our_own() -> None:
    own, other = results({"one": OWN}), results({"one": OTHER})
    undone = dataclasses.replace(
        other, tables=other.tables.mapped(lambda rows: rows[rows["optimizer"] == "Mine"])
    )
    found = united(own, undone)
    assert owners(found.tables.curves) == {"ADAM", "Muon", "Mine"}
    for name, table in own.tables.by_name().items():
        kept = found.tables.by_name()[name]
        assert len(kept[kept["optimizer"] == "ADAM"]) == len(table[table["optimizer"] == "ADAM"])


def test_other_experiments_stay_as_they_are() -> None:
    own, other = results({"one": OWN}), results({"one": OTHER}, name="mine")
    found = united(own, other)
    assert [each.name for each in found.experiments] == ["bench", "mine"]
    assert owners(found.tables.curves) == {"ADAM", "Muon", "Mine"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("problem", "mlp"),
        ("problem's code", "cd"),
        ("problem's data", "ef"),
        ("test instances", 50),
        ("tuning instances", 5),
        ("tuning updates", 10),
        ("seed", 1),
    ],
)
def test_panels_that_differ_are_refused_in_a_sentence(key: str, value: Any) -> None:
    common = {**SETUP, "problem's code": "ab", "problem's data": "ab", "test instances": 12}
    common |= {"tuning updates": 200, "seed": 0}
    own = results({"one": OWN}, setup=common)
    other = results({"one": OTHER}, setup={**common, key: value})
    said = f"bench, panel 'one', is not the same in both folders: {key} {common[key]} here, {value}"
    with pytest.raises(SuiteError) as refused:
        united(own, other)
    assert str(refused.value).startswith(f"{said} there")
    # Of another experiment's panel nothing is said.
    united(own, results({"one": OTHER}, name="mine", setup={**common, key: value}))


def test_panels_of_other_lengths_are_refused_whatever_else_is_known() -> None:
    def without_setup(steps: int) -> Results:
        found = results({"one": OWN}, setup={})
        (panel,) = found.experiments[0].panels
        panels = (dataclasses.replace(panel, steps=steps),)
        experiments = (dataclasses.replace(found.experiments[0], panels=panels),)
        return dataclasses.replace(found, experiments=experiments)

    united(without_setup(200), without_setup(200))
    with pytest.raises(SuiteError, match="updates 200 here, 100 there"):
        united(without_setup(200), without_setup(100))
