"""JSON: written whole or not at all, read as if damaged or hostile."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from l2l.suite.files.atomic import write_text_atomic

# Larger than any file of a results folder; a bound before anything is parsed.
MAX_BYTES = 16 * 2**20


def save_json(path: Path, value: Any) -> None:
    """Write a value in one go, dataclasses as tables."""
    write_text_atomic(path, json.dumps(value, indent=1, default=dataclasses.asdict))


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON, too large, or too deep.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES:,} bytes")
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def load_table(path: Path) -> dict[str, Any]:
    """The JSON object in a file; raises as `load_json`."""
    content = load_json(path)
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if it is not there or not whole."""
    try:
        return load_table(path)
    except (OSError, ValueError):
        return None
