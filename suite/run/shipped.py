"""Shipped checkpoints, as the configurations of cells name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from l2l.suite.core.digests import file_digest
from l2l.suite.core.errors import SuiteError
from l2l.suite.files.places import CHECKPOINTS


def shipped_file(shipped: Mapping[str, str]) -> Path:
    """The file of a checkpoint with this name and content.

    Raises:
        SuiteError: its content is not that of the plan.
    """
    path = CHECKPOINTS / f"{shipped['checkpoint']}.safetensors"
    if not path.is_file() or file_digest(path) != shipped["sha256"]:
        raise SuiteError(f"results/checkpoints/{path.name} changed since this run was planned")
    return path
