"""Digests of what decides a result: configuration, definitions, files."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2l.suite.core.imports import definition_files
from l2l.suite.core.syntax import PLUGIN, code_digest

_definitions: dict[type, str] = {}


def digest(value: Any) -> str:
    """A hex digest of JSON-able data, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def current_digest(path: Path) -> str:
    """`file_digest`, computed once for each version of a file, which may be asked for often."""
    now = path.stat()
    return _digest_of_version(path, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)


@functools.cache
def _digest_of_version(path: Path, *version: int) -> str:
    return file_digest(path)


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of named tensors with their types and shapes, in hex; they are on the CPU."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def definition_digest(cls: type) -> str:
    """A digest of the code that defines `cls`, as it is at the first call; see `definition_files`.

    Comments, docstrings and layout do not count, nor does Python's version.
    """
    if cls not in _definitions:
        codes = {name: code_digest(path.read_bytes()) for name, path in _files_of(cls).items()}
        _definitions[cls] = digest(codes)
    return _definitions[cls]


def covers(cls: type, other: type) -> bool:
    """Whether the code that defines `cls` is also all that defines `other`."""
    return set(_files_of(other).values()) <= set(_files_of(cls).values())


def _files_of(cls: type) -> dict[str, Path]:
    file = Path(str(sys.modules[cls.__module__].__file__))
    top = cls.__module__.partition(".")[0]
    # What lies below a plugin's folder may import from all of it.
    folder = Path(sys.modules[top].__path__[0]) if top.startswith(PLUGIN) else None
    return definition_files(file, folder)
