"""Digests of what decides a result: configuration, definitions, files."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from suite.imports import definition_files
from suite.syntax import code_digest

_definitions: dict[type, str] = {}


def digest(value: Any) -> str:
    """A hex digest of JSON-able data, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def definition_digest(cls: type) -> str:
    """A digest of the code that defines `cls`, as it is at the first call; see `definition_files`.

    Comments, docstrings and layout do not count, nor does Python's version.
    """
    if cls not in _definitions:
        files = definition_files(Path(str(sys.modules[cls.__module__].__file__)))
        codes = {name: code_digest(path.read_bytes()) for name, path in files.items()}
        _definitions[cls] = digest(codes)
    return _definitions[cls]
