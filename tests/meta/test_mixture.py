"""Training on several problems: which runs are on which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_metatrain import FOUR, PROBLEM, SPEC, outcome, training

from l2l.suite.meta import metatrain as module
from l2l.suite.meta.metatrain import metatrain
from l2l.suite.meta.schedule import Phase

ALSO = ({"name": "quadratic", "dim": 2}, {"name": "quadratic", "dim": 5})
MIXED = Phase(36, 4, FOUR, rate=0.02, also=ALSO)


def dimensions(monkeypatch: pytest.MonkeyPatch, folder: Path, *stops: int | None) -> list[int]:
    """The `dim` of the problem that each run is on."""
    seen: list[int] = []
    plain = module._update_over_run

    def spy(problem: Any, *given: Any) -> Any:
        seen.append(problem.dim)
        return plain(problem, *given)

    monkeypatch.setattr(module, "_update_over_run", spy)
    folder.mkdir()
    for until in stops:
        metatrain(PROBLEM, SPEC, training(MIXED, every=4), 1, folder, until=until)
    monkeypatch.undo()
    return seen


def test_runs_are_on_all_problems_and_a_resume_draws_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = dimensions(monkeypatch, tmp_path / "whole", None)
    counts = {dim: seen.count(dim) for dim in set(seen)}
    assert set(counts) == {PROBLEM.dim, 2, 5}
    assert min(counts.values()) >= 5, "of 36 runs, 12 each on average"
    assert dimensions(monkeypatch, tmp_path / "stopped", 4, 20, None) == seen
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def test_draws_depend_on_the_run_and_the_seed() -> None:
    assert {Phase(9, 4, FOUR, rate=0.1).drawn(1, run) for run in range(9)} == {0}
    assert {MIXED.drawn(1, run) for run in range(20)} == {0, 1, 2}
    assert [MIXED.drawn(1, run) for run in range(20)] != [MIXED.drawn(2, run) for run in range(20)]
