"""The schema by which editors complete experiment files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import as_program
from forked import forked
from jsonschema import Draft7Validator
from typer.testing import CliRunner

from l2l.suite.commands.command_line import app
from l2l.suite.files.places import EXPERIMENTS
from l2l.suite.files.yaml import read_yaml

SCHEMA = EXPERIMENTS / "schema.json"
EXAMPLES = EXPERIMENTS.parent / "docs" / "examples"
FILE = """
title: Tiny
sizes: {test_instances: 4, tuning_instances: 2}
profiles: {smoke: {training: {t: {phases: {0: {runs: 8}}}}}}
training:
  t:
    problem: {name: quadratic, dim: 3}
    optimizer: {name: lstm}
    phases: [{runs: 20, horizon: 10, rate: 0.01, estimator: {name: truncated, window: 5}}]
panels:
  q:
    title: Quadratics
    problem: {name: quadratic}
    steps: 10
    optimizers:
      LSTM: {trained: t}
      ADAM: {name: adam, weight_decay: 0.1, schedule: cosine}
      AdamW: {name: torch, optimizer: torch.optim.AdamW, eps: 0.001}
claims:
  T-1: {text: LSTM is best, test: ends_below_all, panel: q, optimizer: LSTM}
"""


def complaints(data: Any) -> list[str]:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    # As JSON, whose keys are texts.
    data = json.loads(json.dumps(data))
    return [error.message for error in Draft7Validator(schema).iter_errors(data)]


def test_schema_is_that_of_what_there_is(tmp_path: Path) -> None:
    """If not: python reproduce.py list --schema > experiments/schema.json"""
    # In a process of its own, which has no plugins of other tests.
    with forked(tmp_path / "printed", as_program, "list", "--schema") as process:
        process.join()
    assert process.exitcode == 0
    kept = SCHEMA.read_text(encoding="utf-8")
    Draft7Validator.check_schema(json.loads(kept))
    assert kept == (tmp_path / "printed").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_experiments_fit_and_name_it(path: Path) -> None:
    assert complaints(read_yaml(path)) == []
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert first == "# yaml-language-server: $schema=schema.json"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("title: Tiny", "titel: Tiny", "'titel' was unexpected"),
        ("title: Tiny", "seed: 1", "'title' is a required property"),
        ("test_instances: 4", "test_instances: 0", "less than the minimum of 1"),
        ("runs: 8", "rnus: 8", "is not valid under any of the given schemas"),
        ("smoke:", "smook:", "'smook' was unexpected"),
        ("dim: 3", "dimension: 3", "'dimension' was unexpected"),
        ("name: lstm", "name: lsmt", "'lsmt' is not one of"),
        ("window: 5", "window: wide", "'wide' is not"),
        ("rate: 0.01", "rate: 0", "less than or equal to the minimum of 0"),
        ("weight_decay: 0.1", "weight_deacy: 0.1", "'weight_deacy' was unexpected"),
        ("trained: t", "trained: t, units: 3", "'units' was unexpected"),
        ("test: ends_below_all", "test: ends_abvoe_all", "'ends_abvoe_all' is not one of"),
        ("panel: q, opt", "pannel: q, opt", "'pannel' was unexpected"),
        (", optimizer: LSTM", "", "'optimizer' is a required property"),
        ("  q:", "  q/q:", "'q/q' does not match"),
    ],
)
def test_mistakes_are_seen_in_the_editor(old: str, new: str, told: str) -> None:
    assert complaints(yaml.safe_load(FILE)) == []
    assert FILE.count(old) == 1
    found = complaints(yaml.safe_load(FILE.replace(old, new)))
    assert any(told in each for each in found), found


def test_fields_are_described_and_tuned_ones_may_be_left_out() -> None:
    definitions = json.loads(SCHEMA.read_text(encoding="utf-8"))["definitions"]
    assert definitions["Phase"]["properties"]["batch"] == {
        "type": "integer",
        "minimum": 1,
        "description": "runs side by side, averaged in one update of φ.",
        "default": 1,
    }
    (adam,) = (
        case["then"]
        for case in definitions["optimizer"]["allOf"]
        if case["if"]["properties"]["name"]["const"] == "adam"
    )
    assert "lr" in adam["properties"] and "lr" not in adam["required"]


def test_schema_of_a_plugin_knows_what_it_registers() -> None:
    words = ["list", "--schema", "--plugin", str(EXAMPLES / "rosenbrock.py")]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    example = yaml.safe_load((EXAMPLES / "rosenbrock.yaml").read_text(encoding="utf-8"))
    assert not list(Draft7Validator(json.loads(told.output)).iter_errors(example))
