"""Experiments and settings of any content end in a plan or in one sentence."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import yaml
from fuzzing import TEXTS, VALUES, altered, damaged, fuzzed
from hypothesis import given
from hypothesis import strategies as st

from l2l.suite.commands.request import Request, plan_request
from l2l.suite.core.errors import SuiteError
from l2l.suite.files.yaml import MAX_BYTES, MAX_DEPTH, MAX_NODES, parse_yaml, read_yaml

TINY = """
title: Tiny
sizes: {test_instances: 4, tuning_instances: 2}
profiles: {smoke: {sizes: {test_instances: 2}}}
training:
  t:
    problem: {name: quadratic, dim: 3}
    optimizer: {name: lstm, preprocessing: none, hidden: 4}
    phases: [{runs: 8, horizon: 10, estimator: {name: truncated, window: 5},
              rate: 0.01, batch: 2, odd: true}]
    seeds: [1, 2]
panels:
  q:
    title: Quadratics
    problem: {name: quadratic, dim: 3}
    steps: 10
    paper: {figure: fig4, panel: quadratics}
    optimizers: {LSTM: {trained: t}, SGD: {name: sgd}, ADAM: {name: adam, lr: 0.1}}
claims:
  T-1: {text: "SGD ends below all", test: ends_below_all, panel: q, optimizer: SGD}
"""
KEYS = ("sizes.test_instances", "training.t.phases.0.rate", "panels.q.optimizers.SGD", "claims.T-1")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiments") / "tiny.yaml"


def plan(path: Path, *settings: str) -> None:
    """Plan or refuse; anything else is an error."""
    try:
        made = plan_request(Request((str(path),), "smoke", settings))
    except SuiteError as error:
        assert str(error).isprintable()
    else:
        for cell in made.cells:
            assert "/" not in cell.label
            assert cell.folder(Path("root")).parent == Path("root/cells")


@fuzzed
@given(data=altered(yaml.safe_load(TINY)))
def test_altered_experiment_is_planned_or_refused(path: Path, data: object) -> None:
    path.write_text(yaml.safe_dump(data), encoding="utf-8", errors="surrogatepass")
    plan(path)


@fuzzed
@given(content=damaged(TINY.encode()))
def test_damaged_experiment_is_planned_or_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    plan(path)


@fuzzed
@given(
    key=st.one_of(st.sampled_from(KEYS), TEXTS),
    value=st.one_of(TEXTS, VALUES.map(lambda value: yaml.safe_dump(value))),
)
def test_any_setting_is_planned_or_refused(path: Path, key: str, value: str) -> None:
    path.write_text(TINY)
    plan(path, f"{key}={value}")


# Each stands for 9^9 values, or for one that contains itself.
BOMBS = {
    "aliases": "a0: &a0 [x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join(9 * [f'*a{n - 1}'])}]\n" for n in range(1, 10)),
    "merges": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join(9 * [f'*a{n - 1}'])}]}}\n" for n in range(1, 10)),
    "itself": "a: &a [*a]",
    "itself in a table": "--- &a\na: *a",
    "depth": "a: " + 5000 * "[",
    "whole depth": "a: " + (MAX_DEPTH + 1) * "[" + (MAX_DEPTH + 1) * "]",
    "depth by aliases": "a0: &a0 [x]\n"
    + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 400)),
    "many": "a: [" + (MAX_NODES + 1) * "1," + "]",
    "large": "a: " + MAX_BYTES * "x",
    "digits": "a: " + 9999 * "9",
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_bomb_is_refused_before_it_takes_memory(path: Path, name: str) -> None:
    path.write_text(BOMBS[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SuiteError, match=r"YAML|at most"):
        read_yaml(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_anchors_and_merges_of_ordinary_size_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]"
    assert parse_yaml(text)["b"] == {"x": 1, "y": 3}
    assert parse_yaml(text)["c"][1] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    "setting",
    ["name=../x", "training.t.checkpoint=../../x", "panels={../x: {title: a}}", f"{'a.' * 400}b=1"],
)
def test_names_that_leave_the_folder_are_refused(path: Path, setting: str) -> None:
    path.write_text(TINY)
    with pytest.raises(SuiteError):
        plan_request(Request((str(path),), "smoke", (setting,)))
