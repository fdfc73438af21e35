"""Kinds of cell that follow others in a plan."""

from __future__ import annotations

import pytest
from fake_kinds import fake_kind

from l2l.suite.core.errors import SuiteError
from l2l.suite.plan.cells import following, make_cell


def test_a_kind_may_follow_one_that_follows_another(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_kind(monkeypatch, print, "zzz", follows="evaluate")
    fake_kind(monkeypatch, print, "aaa", follows="zzz")
    fake_kind(monkeypatch, print, "bbb", follows="aaa")
    cell = make_cell("evaluate", "own", {})
    found = following([cell])
    assert [each.kind for each in found] == ["zzz", "aaa", "bbb"]
    assert [each.inputs for each in found] == [(cell,), (found[0],), (found[1],)]


@pytest.mark.parametrize("follows", ["evaluat", "own"])
def test_a_kind_cannot_follow_what_is_not_there_or_itself(
    monkeypatch: pytest.MonkeyPatch, follows: str
) -> None:
    fake_kind(monkeypatch, print, "own", follows=follows)
    with pytest.raises(SuiteError, match=f"kind of cell 'own' follows '{follows}'"):
        following([make_cell("evaluate", "own", {})])
