"""Digests of what decides a result: configuration, definitions, files."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Packages whose modules define results; a definition's digest follows imports among them.
PACKAGES = ("problems", "optimizers")
# Faster ways to the same numbers. A change that alters numbers raises RESULTS_VERSION instead.
NOT_RESULTS = ("optimizers.kernels",)


def digest(value: Any) -> str:
    """A hex digest of JSON-able data, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def definition_digest(cls: type) -> str:
    """A digest of the code that defines `cls`: its file, and what that imports of `PACKAGES`.

    Comments, docstrings and layout do not count.
    """
    own = Path(str(sys.modules[cls.__module__].__file__))
    files = {own.stem: own}
    pending = [own]
    while pending:
        for name, path in imported_definitions(pending.pop()).items():
            if name not in files and path != own:
                files[name] = path
                pending.append(path)
    return digest({name: _code(path.read_bytes()) for name, path in files.items()})


@functools.cache
def _code(source: bytes) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            del body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant and isinstance(node.value.value, str)  # type: ignore[attr-defined]


def imported_definitions(path: Path) -> dict[str, Path]:
    """Modules of `PACKAGES` that a file imports, with their files."""
    found = {}
    for name in _imported_names(ast.parse(path.read_bytes())):
        inside = name.split(".")[0] in PACKAGES
        if not inside or name.startswith(NOT_RESULTS) or name in PACKAGES:
            continue
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            # `from module import thing`: thing is no module.
            continue
        if spec is not None and spec.origin is not None:
            found[name] = Path(spec.origin)
    return found


def _imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
