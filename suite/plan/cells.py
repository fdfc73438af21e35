"""Cells: units of work, each known by the hash of everything that decides its result."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2l.suite.core.convert import plain
from l2l.suite.core.digests import definition_digest, digest
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.core.plugins import is_from_plugin
from l2l.suite.core.registry import kinds
from l2l.suite.files.places import CELLS

# Raised whenever the harness computes other numbers from the same configuration.
RESULTS_VERSION = 2

SHORT = 12


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    Args:
        kind: what is done, by the name of a registered `Kind`.
        name: for people. It is part of the folder's name but not of the key, so it must follow from
            `config` and `inputs`: else equal work had two folders, of which one is never filled.
        config: what decides the result, JSON-able.
        inputs: cells whose results it reads, in the order its runner expects.
        key: the hash of all that.
    """

    kind: str
    name: str
    config: Mapping[str, Any]
    inputs: tuple[Cell, ...]
    key: str

    @property
    def label(self) -> str:
        """The name of its folder, and how people are told of it."""
        return f"{self.kind}-{self.name}-{self.key[:SHORT]}"

    def folder(self, root: Path) -> Path:
        """Where its results lie, in the results folder `root`."""
        return root / CELLS / self.label


def make_cell(kind: str, name: str, config: Mapping[str, Any], inputs: Iterable[Cell] = ()) -> Cell:
    """A `Cell` with its key, and a name that is safe in a file's name.

    Dataclasses in `config` become tables.

    Raises:
        SuiteError: there is no such kind.
    """
    inputs, cls = tuple(inputs), kinds.cls(kind)
    if is_from_plugin(cls):
        # The suite's own are part of the harness, which `RESULTS_VERSION` stands for.
        spec = {"spec": {"name": kind}, "kind": kinds.kind, "code": definition_digest(cls)}
        config = {**config, "kind": spec}
    # As it will be read back from the cell's file: a kind sees the same, before and after.
    config = plain(config)
    key = digest(
        {
            "kind": kind,
            "config": config,
            "inputs": [cell.key for cell in inputs],
            "results_version": RESULTS_VERSION,
        }
    )
    safe = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
    return Cell(kind, safe, config, inputs, key)


def in_order(
    cells: Iterable[Cell], done: Callable[[Cell], bool] = lambda cell: False
) -> tuple[Cell, ...]:
    """The cells and all that they need, each key once, inputs before what reads them.

    Those that are `done` are left out, and so is what they alone need.
    """
    ordered: dict[str, Cell] = {}
    seen: set[str] = set()

    def visit(cell: Cell) -> None:
        if cell.key in seen:
            return
        seen.add(cell.key)
        if not done(cell):
            for each in cell.inputs:
                visit(each)
            ordered[cell.key] = cell

    for cell in cells:
        visit(cell)
    return tuple(ordered.values())


def following(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """The cells of all kinds that follow one of these, or one of those; see `Kind.follows`.

    Raises:
        SuiteError: a kind follows one that is not there, or itself.
    """
    follows = {name: kinds.cls(name).follows for name in kinds}
    for name, kind in follows.items():
        if kind and (kind == name or kind not in follows):
            raise SuiteError(f"kind of cell {name!r} follows {kind!r}: {nearest(kind, follows)}")
    found: list[Cell] = []
    new = list(cells)
    for _ in follows:  # no chain of kinds is longer
        new = [
            make_cell(name, cell.name, {}, (cell,))
            for cell in new
            for name, kind in follows.items()
            if kind == cell.kind
        ]
        found += new
    return tuple(found)
