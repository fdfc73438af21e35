"""Kinds of cell for tests, which compute little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from l2l.suite.core.kind import Job, Kind
from l2l.suite.core.registry import kinds


def fake_kind(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[Job], Any], name: str = "fake", **about: Any
) -> None:
    """Cells of a kind do `work` until the test ends; it has attributes such as `leaves`."""
    kinds.names()  # so that the suite's own are there, and do not come in its place
    members = {"run": lambda self, job: work(job), **about}
    monkeypatch.setitem(kinds._classes, name, type("Fake", (Kind,), members))


def forget_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds that are registered from here on are gone after the test."""
    monkeypatch.setattr(kinds, "_classes", {name: kinds.cls(name) for name in kinds})
