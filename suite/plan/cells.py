"""Cells: units of work, each known by the hash of everything that decides its result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2l.suite.core.digests import digest
from l2l.suite.files.places import CELLS

# Raised whenever the harness computes other numbers from the same configuration.
RESULTS_VERSION = 2

# Those that many wait for come first.
KINDS = ("promote", "metatrain", "select", "tune", "evaluate", "trace")

SHORT = 12


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    Args:
        kind: what is done; see `suite.run.kinds`.
        name: for people; it is part of the folder's name and says nothing that `config` does not.
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
    """A cell with its key, and a name that is safe in a file's name."""
    inputs = tuple(inputs)
    # As it will be read back from the cell's file: a runner sees the same, now or then.
    config = json.loads(json.dumps(config))
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


def in_order(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """The cells and all that they need, each key once, inputs before what reads them."""
    ordered: dict[str, Cell] = {}

    def visit(cell: Cell) -> None:
        if cell.key not in ordered:
            for each in cell.inputs:
                visit(each)
            ordered[cell.key] = cell

    for cell in cells:
        visit(cell)
    return tuple(ordered.values())
