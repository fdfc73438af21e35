"""Evaluations and sweeps that are interrupted go on after the last piece that was done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import damaged, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import l2l.suite.inner.objective
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.bounds import Spec
from l2l.suite.core.digests import definition_digest
from l2l.suite.core.registry import problems
from l2l.suite.core.types import Problem
from l2l.suite.files.pieces import Pieces
from l2l.suite.files.places import CURVES, PICTURES, PIECE, TUNING
from l2l.suite.inner.memory import ONE_BY_ONE
from l2l.suite.inner.pictures import load_pictures
from l2l.suite.plan.cells import Cell, make_cell
from l2l.suite.run.folder import open_results
from l2l.suite.run.records import record_of
from l2l.suite.run.store import run_cell

STEPS, RUNS = 9, 11


@dataclass(frozen=True)
class OneByOne(Quadratic):
    """A quadratic as if it were large, with a picture of θ."""

    one_by_one = True

    def picture(self, params: dict[str, Tensor]) -> Tensor:
        return params["theta"][:1].abs().clamp(0, 1).mul(255).to(torch.uint8).expand(3, 2, 2)


@pytest.fixture(scope="module", autouse=True)
def _known() -> Any:
    # Not when this module is imported: other tests take in all that is registered by then.
    problems.add("one-by-one", OneByOne)
    yield
    del problems._classes["one-by-one"]


def cell(kind: str) -> Cell:
    spec: Spec = {"name": "one-by-one"}
    return make_cell(
        kind,
        "c",
        {
            "problem": {"spec": spec, "code": definition_digest(OneByOne), "notice": ""},
            "optimizer": {"spec": {"name": "sgd", "lr": 0.01}, "tuned": None},
            "steps": STEPS,
            "instances": RUNS,
            "seed": 3,
        }
        | ({"optimizer": {"spec": {"name": "sgd"}, "tuned": "lr"}} if kind == "tune" else {}),
    )


class Killed(BaseException):
    """What nothing catches, as a kill."""


@pytest.mark.parametrize(
    ("kind", "table", "lost"),
    [("evaluate", CURVES, 0), ("tune", TUNING, 0), ("evaluate", CURVES, STEPS + 1)],
)
def test_interrupted_cell_goes_on_and_ends_with_the_same_bits(
    kind: str, table: str, lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = cell(kind)
    evaluations = 0
    real = l2l.suite.inner.objective.Objective.value_and_grad
    last: float = 0

    def counted(self: Any, theta: Tensor, step: int) -> tuple[Tensor, Tensor]:
        nonlocal evaluations
        evaluations += 1
        if evaluations == last:
            raise Killed
        return real(self, theta, step)

    monkeypatch.setattr(l2l.suite.inner.objective.Objective, "value_and_grad", counted)
    whole, split = tmp_path / "whole", tmp_path / "split"
    for root in (whole, split):
        open_results(root)
    assert run_cell(one, whole, "cpu").state == "done"
    needed, evaluations = evaluations, 0
    # In the second group of runs: those of the first are kept.
    last = STEPS + 1 + 4
    with pytest.raises(Killed):
        run_cell(one, split, "cpu")
    assert record_of(one, split) is None
    assert len(list(one.folder(split).glob(f"{PIECE}*"))) == 1
    if lost:
        # Without its pictures a group of runs is of no use.
        (one.folder(split) / PICTURES).write_bytes(b"damaged")
    assert run_cell(one, split, "cpu").state == "done"
    # The four evaluations that were lost, the last of them not done, and no other twice.
    assert evaluations == needed + 4 + lost
    folders = [one.folder(root) for root in (whole, split)]
    assert len({(folder / table).read_bytes() for folder in folders}) == 1
    if kind == "evaluate":
        pictures = [load_pictures(folder / PICTURES) for folder in folders]
        assert pictures[0].keys() == pictures[1].keys()
        assert {key[0] for key in pictures[0]} == {0, 1, 2}
        assert all(torch.equal(pictures[0][key], pictures[1][key]) for key in pictures[0])
    for folder in folders:
        assert not list(folder.glob(f"{PIECE}*"))
    record = record_of(one, split)
    assert record is not None
    assert not any(name.startswith(PIECE) for name in record["files"])


def test_runs_of_a_large_problem_are_kept_a_few_at_a_time() -> None:
    assert ONE_BY_ONE < RUNS
    assert not Problem.one_by_one


def make(value: Tensor, calls: list[int]) -> Callable[[], Tensor]:
    def computed() -> Tensor:
        calls.append(1)
        return value

    return computed


@fuzzed
@given(data=st.data())
def test_damaged_piece_is_computed_again(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    value, calls = torch.arange(6.0).view(2, 3), list[int]()
    keep = Pieces(folder)
    assert torch.equal(keep("0-2", make(value, calls)), value)
    assert torch.equal(keep("0-2", make(value, calls)), value)
    assert len(calls) == 1
    (path,) = folder.iterdir()
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    assert torch.equal(keep("0-2", make(value, calls)), value)
    assert torch.equal(keep("0-2", make(value, calls)), value)
    assert len(calls) <= 2
